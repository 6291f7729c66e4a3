"""Looking a data set over before any work: counts, classes, and everything that is wrong with it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from mer_jax.data.clips import INTENDED, NOT_VALID, Absent, Clip, Dataset, Problem
from mer_jax.data.decoding import mapped_array, mapped_crops, media_of, time_limit
from mer_jax.data.media import Probe, probe
from mer_jax.data.workers import map_in_workers

IMBALANCE = 10.0  # largest class / smallest class from which a warning is given
FEWEST = 10  # labelled clips of a class below which a warning is given
SHOWN = 5  # names per reason


def probe_clip(clip: Clip) -> Probe:
    """What the clip's media file holds: a worker's job."""
    return probe(media_of(clip), clip.audio_track)


def probe_media(
    clips: Sequence[Clip], workers: int, seconds: float, advance: Callable[[int], object]
) -> Iterator[Problem]:
    """Opens every media file (see `probe`); a problem for each that lacks frames, or sound that can be heard,
    or has several of a kind.

    And one for each array that a clip brings, crops or features, and that cannot be read.
    """
    for clip in clips:
        crops = [("image", mapped_crops, clip.faces)] if clip.faces and clip.faces.is_file() else []
        for modality, read, path in [*crops, *((name, mapped_array, path) for name, path in clip.features.items())]:
            try:
                read(path)
            except Absent as reason:
                yield Problem(clip.name, clip.split, modality, f"damaged file ({reason})")
    with_media = [clip for clip in clips if clip.media is not None]
    probes = map_in_workers(probe_clip, with_media, lambda clip: time_limit(clip, seconds), count=workers)
    for clip, content in zip(with_media, probes, strict=True):
        advance(1)
        if isinstance(content, Absent):
            yield Problem(clip.name, clip.split, None, str(content))
            continue
        about = [(clip.split, modality, reason) for modality, reason in lacks(content) if not clip.hides(modality)]
        yield from (Problem(clip.name, *each) for each in about)


def lacks(content: Probe) -> Iterator[tuple[str, str]]:
    """The modalities that a media file lacks, or has several of, and what is to be said of each."""
    if content.sound is None and "speech" not in dict(content.notes):
        yield "speech", "no sound track"
    elif content.silent:
        yield "speech", "silent"
    if content.video is None:
        yield "video", "no video stream"
    yield from content.notes


def overview(dataset: Dataset) -> list[str]:
    """The data set in a few lines: what `train` prints."""
    lines = [f"{dataset.name}: {len(dataset.clips)} clips, {len(dataset.labels)} labels"]
    for split, classes in dataset.classes().items():
        clips = [clip for clip in dataset.clips if clip.split == split]
        if clips:
            counts = ", ".join(f"{label} {count}" for label, count in classes.items())
            lines.append(f"{split}: {len(clips)} clips ({counts if sum(classes.values()) else 'labels unknown'})")
    for modality, splits in dataset.not_valid().items():
        lines.append(f"{modality}: not valid for {', '.join(f'{n:,} {split} clips' for split, n in splits.items())}")
    lines += [f"warning: {text}" for text in warnings(dataset)]
    if dataset.problems:
        how = "`python -m mer_jax.prepare --check` with the same --config lists them and looks into the media"
        intended = all(problem.reason.endswith(f"({INTENDED})") for problem in dataset.problems)
        kind = " that the sample has on purpose" if intended else ""
        lines.append(f"{len(dataset.problems)} problems in tables and folders{kind}; {how}")
    return lines


def report(dataset: Dataset, problems: Iterable[Problem]) -> list[str]:
    """Everything there is to say about a data set, line by line. problems: those of `probe_media`."""
    header = ("split", "clips", "media", "faces", "text", "groups", *dataset.labels, "unknown")
    rows = [header]
    for split, classes in dataset.classes().items():
        clips = [clip for clip in dataset.clips if clip.split == split]
        numbers = (
            len(clips),
            sum(clip.media is not None or clip.prepared is not None for clip in clips),
            sum(clip.faces is not None for clip in clips),
            sum(clip.transcript != "" for clip in clips),
            len({clip.group for clip in clips} - {None}),
            *classes.values(),
            len(clips) - sum(classes.values()),
        )
        rows.append((split, *map(str, numbers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{dataset.name}: {len(dataset.clips)} clips"]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [f"warning: {text}" for text in warnings(dataset)]

    grouped = defaultdict(list)
    untold = [clip for clip in dataset.clips if not (clip.transcript or clip.hides("text"))]
    silent = [Problem(clip.name, clip.split, "text", "empty transcript") for clip in untold]
    if silent and len(silent) == len(dataset.clips):  # no text column, or an empty one: nothing about a clip
        silent = []
        lines.append("no clip has a transcript")
    for problem in [*dataset.problems, *silent, *problems]:
        kind = problem.reason.partition(" (")[0]  # what is in parentheses is the one clip's
        grouped[problem.modality or "clip", kind].append(problem)
    for (modality, kind), alike in sorted(grouped.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(alike):7d} x {modality}: {kind}")
        lines += [f"          {one.name}, {one.split}{one.reason.removeprefix(kind)}" for one in alike[:SHOWN]]
        if len(alike) > SHOWN:
            lines.append(f"          and {len(alike) - SHOWN} more")
    not_valid = dataset.not_valid()
    lines += [f"{sum(splits.values()):7d} x {modality}: {NOT_VALID}" for modality, splits in not_valid.items()]
    return lines if grouped or not_valid else [*lines, "no problems found"]


def warnings(dataset: Dataset) -> list[str]:
    """What does not stop a run, but will colour its scores."""
    lines = list(dataset.warnings)
    counts = dataset.classes()["train"]
    smallest, largest = (pick(counts, key=counts.__getitem__) for pick in (min, max))
    most, fewest = counts[largest], counts[smallest]
    if most >= IMBALANCE * max(fewest, 1):
        lines.append(f"classes are imbalanced: {most} labelled clips are {largest}, {fewest} {smallest}")
    if few := [label for label, count in counts.items() if count < FEWEST]:
        lines.append(f"fewer than {FEWEST} labelled clips: {', '.join(few)}")
    if alone := [label for label, count in counts.items() if count == 1]:
        lines.append(
            f"a single labelled clip: {', '.join(alone)}, which is held out where networks never saw the class"
        )
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in dataset.clips:
        if clip.group:
            splits[clip.group].add(clip.split)
    if shared := sum({"train", "test"} <= of_group for of_group in splits.values()):
        lines.append(f"{shared} groups are in the train and in the test split: the test score knows them")
    return lines
