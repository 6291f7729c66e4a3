"""Looking a data set over before any work: counts, classes, and everything that is wrong with it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mer_jax.data.clips import Absent, Clip, Dataset, Problem
from mer_jax.data.decoding import mapped_array, mapped_crops, time_limit
from mer_jax.data.media import Probe, probe
from mer_jax.data.workers import map_in_workers

IMBALANCE = 10.0  # largest class / smallest class from which a warning is given
FEWEST = 10  # labelled clips of a class below which a warning is given
SHOWN = 5  # names per reason


def probe_clip(clip: Clip) -> Probe:
    """What the clip's media file holds: a worker's job."""
    assert clip.media
    return probe(clip.media)


def probe_media(
    clips: Sequence[Clip], workers: int, seconds: float, advance: Callable[[int], object]
) -> Iterator[Problem]:
    """Opens every media file (see `probe`); a problem for each that lacks frames, or sound that can be heard.

    And one for each array that a clip brings, crops or features, and that cannot be read.
    """
    for clip in clips:
        if clip.faces and clip.faces.is_file():
            yield from unreadable(clip, "image", mapped_crops, clip.faces)
        for modality, path in clip.features.items():
            yield from unreadable(clip, modality, mapped_array, path)
    with_media = [clip for clip in clips if clip.media is not None]
    probes = map_in_workers(probe_clip, with_media, lambda clip: time_limit(clip, seconds), count=workers)
    for clip, content in zip(with_media, probes, strict=True):
        advance(1)
        if isinstance(content, Absent):
            yield Problem(clip.name, clip.split, None, str(content))
            continue
        if content.sound is None:
            yield Problem(clip.name, clip.split, "speech", "no sound track")
        elif content.silent:
            yield Problem(clip.name, clip.split, "speech", "silent")
        if content.video is None:
            yield Problem(clip.name, clip.split, "video", "no video stream")


def unreadable(clip: Clip, modality: str, read: Callable[[Path], object], path: Path) -> Iterator[Problem]:
    """A problem if `read` raises Absent."""
    try:
        read(path)
    except Absent as reason:
        yield Problem(clip.name, clip.split, modality, f"damaged file ({reason})")


def overview(dataset: Dataset) -> list[str]:
    """The data set in a few lines: what `train` prints."""
    lines = [f"{dataset.name}: {len(dataset.clips)} clips, {len(dataset.labels)} labels"]
    for split, classes in dataset.classes().items():
        clips = [clip for clip in dataset.clips if clip.split == split]
        if clips:
            counts = ", ".join(f"{label} {count}" for label, count in classes.items())
            lines.append(f"{split}: {len(clips)} clips ({counts if sum(classes.values()) else 'labels unknown'})")
    lines += [f"warning: {text}" for text in warnings(dataset)]
    reasons = Counter(problem.reason for problem in dataset.problems)
    if reasons:
        how = "`python -m mer_jax.prepare --check` with the same --config lists them and looks into the media"
        lines.append(f"{len(dataset.problems)} problems in tables and folders; {how}")
    return lines


def report(dataset: Dataset, problems: Iterable[Problem]) -> list[str]:
    """Everything there is to say about a data set, line by line. problems: those of `probe_media`."""
    lines = [f"{dataset.name}: {len(dataset.clips)} clips"]
    header = ("split", "clips", "media", "faces", "text", "groups", *dataset.labels, "unknown")
    rows = [header]
    for split, classes in dataset.classes().items():
        clips = [clip for clip in dataset.clips if clip.split == split]
        given = (
            sum(clip.media is not None or clip.prepared is not None for clip in clips),
            sum(clip.faces is not None for clip in clips),
            sum(clip.transcript != "" for clip in clips),
            len({clip.group for clip in clips} - {None}),
        )
        counts = (*classes.values(), len(clips) - sum(classes.values()))
        rows.append((split, *map(str, (len(clips), *given, *counts))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [f"warning: {text}" for text in warnings(dataset)]

    grouped = defaultdict(list)
    silent = [Problem(c.name, c.split, "text", "empty transcript") for c in dataset.clips if not c.transcript]
    for problem in [*dataset.problems, *silent, *problems]:
        kind = problem.reason.partition(" (")[0]  # what is in parentheses is the one clip's
        grouped[problem.modality or "clip", kind].append(problem)
    for (modality, kind), alike in sorted(grouped.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(alike):7d} x {modality}: {kind}")
        for problem in alike[:SHOWN]:
            lines.append(f"          {problem.name}, {problem.split}{problem.reason.removeprefix(kind)}")
        if len(alike) > SHOWN:
            lines.append(f"          and {len(alike) - SHOWN} more")
    if not grouped:
        lines.append("no problems found")
    return lines


def warnings(dataset: Dataset) -> list[str]:
    """What does not stop a run, but will colour its scores."""
    lines = list(dataset.warnings)
    counts = dataset.classes()["train"]
    smallest, largest = (pick(counts, key=counts.__getitem__) for pick in (min, max))
    if counts[largest] >= IMBALANCE * max(counts[smallest], 1):
        lines.append(
            f"classes are imbalanced: {counts[largest]} labelled clips are {largest}, {counts[smallest]} {smallest}"
        )
    few = [label for label, count in counts.items() if count < FEWEST]
    if few:
        lines.append(f"fewer than {FEWEST} labelled clips: {', '.join(few)}")
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in dataset.clips:
        if clip.group:
            splits[clip.group].add(clip.split)
    shared = sum({"train", "test"} <= of_group for of_group in splits.values())
    if shared:
        lines.append(f"{shared} groups are in the train and in the test split: the test score knows them")
    return lines
