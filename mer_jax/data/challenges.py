"""The MER challenges' data sets as they lie on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_jax.data.clip_files import ClipFiles, check_names, key_of, media_files, media_of_name
from mer_jax.data.clips import Clip, Dataset, Problem
from mer_jax.data.labels import UNSAID
from mer_jax.data.tables import read_mapping, read_names
from mer_jax.runtime.errors import DataError


@dataclass(frozen=True)
class MerFiles:
    """Where a challenge keeps its parts, relative to its root; of alternatives the first that exists is read.

    A name may be a pattern. Without any media a clip is what has ready-made features, where `media_optional` allows it.
    """

    labels: tuple[str, ...]  # csv name,discrete
    transcripts: tuple[str, ...]  # csv name,chinese
    labelled_media: tuple[str, ...]
    candidate_media: tuple[str, ...]
    candidates: tuple[str, ...] = ()  # csv with the candidates' names; none: every file of candidate_media
    warnings: tuple[str, ...] = ()
    media_optional: bool = False


SHARED_CLIPS = (
    "MER2025's training set probably contains MER2024's test clips: "
    "do not score models trained on the one with the other"
)
MER_FILES = {
    "mer2024": MerFiles(
        labels=("label-disdim.csv",),
        transcripts=("label-transcription.csv",),
        labelled_media=("video-labeled",),
        candidate_media=("video-unlabeled-with-test2noise", "video-unlabeled"),
    ),
    "mer2025": MerFiles(
        labels=("track1_train_disdim.csv",),
        transcripts=("subtitle_chieng.csv",),
        labelled_media=("video",),
        candidate_media=("video",),
        candidates=("track_all_candidates.csv",),
        warnings=(SHARED_CLIPS,),
    ),
    "mer2026": MerFiles(
        labels=("track1_train.csv",),
        transcripts=("subtitle_chieng.csv",),
        labelled_media=("video",),
        candidate_media=("video",),
        candidates=("track1_track2_candidate.csv",),
        warnings=(SHARED_CLIPS.replace("MER2025", "MER2026"),),
    ),
    "processed": MerFiles(  # what the baseline makes of a challenge's data
        labels=("label.csv", "label-6way.csv", "label-disdim.csv"),
        transcripts=("transcription-merge.csv", "transcription-engchi-polish.csv", "transcription*.csv"),
        labelled_media=("video", "audio"),
        candidate_media=("video", "audio"),
        media_optional=True,
    ),
}


@dataclass(frozen=True)
class Tables:
    """What a challenge's csv files say of its clips, by the key of their names."""

    labels: dict[str, str]  # of the train split
    transcripts: dict[str, str]
    test_labels: dict[str, str]  # for scoring only, as the next
    hidden_labels: dict[str, str]  # of the test split and, where known, of the unlabelled one
    names: dict[str, str]  # as the tables of labels write them

    @classmethod
    def read(cls, root: Path, parts: MerFiles, labels: tuple[str, ...], problems: list[Problem]) -> "Tables":
        """labels: the label set; rows with another label are left out."""
        train_labels = read_mapping(first(root, parts.labels), "discrete", problems, labels)
        transcripts = read_mapping(first(root, parts.transcripts), "chinese", problems)
        test_labels, unlabelled_labels = (
            read_mapping(root / file, "discrete", problems, labels) if (root / file).exists() else {}
            for file in ("label-test.csv", "label-unlabeled.csv")
        )
        for name, text in transcripts.items():
            if text in UNSAID:
                problems.append(Problem(name, "none", "text", f"no text: a marker of what is missing ({text!r})"))
                transcripts[name] = ""
        names = {key_of(name): name for name in (*test_labels, *train_labels)}
        hidden_labels = keyed(unlabelled_labels) | keyed(test_labels)
        return cls(keyed(train_labels), keyed(transcripts), keyed(test_labels), hidden_labels, names)

    def clip(self, name: str, media: Mapping[str, Path]) -> Clip:
        """The clip of this name, in the split that the tables put it in. media: see `media_files`."""
        key = key_of(name)
        label = self.labels.get(key)
        split = "train" if label is not None else "test" if key in self.test_labels else "unlabeled"
        transcript = self.transcripts.get(key, "")
        return Clip(name, split, media_of_name(media, name), transcript=transcript, label=label)


def keyed(cells: Mapping[str, str]) -> dict[str, str]:
    """Cells by the keys of their clips' names."""
    return {key_of(name): cell for name, cell in cells.items()}


def read_mer(
    root: Path, layout: str, labels: tuple[str, ...], features: Mapping[str, str] | None = None, name: str | None = None
) -> Dataset:
    """Reads a challenge's folder.

    Two optional csv files `name,discrete` hold labels that are used for scoring only: `label-test.csv`, whose
    names also make the test split, and `label-unlabeled.csv`.

    Args:
        root: the folder.
        layout: a key of MER_FILES.
        labels: the label set; rows with another label are left out.
        features: as for `read_folder`.
        name: of the data set, where it is not the layout's.

    Raises:
        DataError: a part is missing, or a table cannot be used as it is.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set in the {layout} layout")
    parts, files, problems = MER_FILES[layout], ClipFiles(root, features or {}), list[Problem]()
    tables = Tables.read(root, parts, labels, problems)
    featured = files.featured_names() if parts.media_optional else set[str]()
    labelled_folder, candidate_folder = media_folders(root, parts, optional=bool(featured))
    media = media_files(labelled_folder, problems)
    shared = candidate_folder == labelled_folder
    candidate_media = media if shared else media_files(candidate_folder, problems)
    if parts.candidates:
        source = first(root, parts.candidates)
        candidates = read_names(source, problems)
    else:
        source = candidate_folder
        listed = sorted(candidate_media.keys() | tables.test_labels.keys() | featured)
        candidates = [tables.names.get(key, key) for key in listed if not (shared and key in tables.labels)]
    both = f"both labelled and a candidate, taken as labelled ({source.name})"
    problems += [Problem(name, "train", None, both) for name in candidates if key_of(name) in tables.labels]
    candidates = [candidate for candidate in candidates if key_of(candidate) not in tables.labels]

    clips = [tables.clip(tables.names[key], media) for key in tables.labels]
    clips += [tables.clip(candidate, candidate_media) for candidate in candidates]
    clips = [files.complete(clip) for clip in clips]
    used, keys = {clip.media for clip in clips}, {key_of(clip.name) for clip in clips}
    problems += files.problems(clips, (key for key, path in media.items() if path not in used), parts.labels[0])
    warnings = list(parts.warnings)
    of_media = clips if shared else clips[: len(tables.labels)]
    warnings += check_names(labelled_folder, of_media, media, parts.labels[0])
    if unheard := sorted(tables.transcripts.keys() - keys - media.keys()):
        warnings.append(f"{len(unheard)} transcripts belong to no clip, {unheard[0]!r} first")
    hidden = tables.hidden_labels
    truth = {candidate: hidden[key_of(candidate)] for candidate in candidates if key_of(candidate) in hidden}
    return Dataset(name or layout, labels, tuple(clips), truth, tuple(problems), tuple(warnings))


def media_folders(root: Path, parts: MerFiles, optional: bool) -> tuple[Path, Path]:
    """Where the media of the labelled clips and of the candidates lie. optional: they may be missing altogether."""
    if optional and not any((root / folder).exists() for folder in parts.labelled_media):
        return (root / parts.labelled_media[0],) * 2  # which is as if empty
    return first(root, parts.labelled_media), first(root, parts.candidate_media)


def first(root: Path, names: tuple[str, ...]) -> Path:
    """The first of the files or folders that exists."""
    for name in names:
        for path in sorted(root.glob(name)):
            return path
    raise DataError(f"{root}: {'none of' if len(names) > 1 else 'no'} {', '.join(names)} in it")
