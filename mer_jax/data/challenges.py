"""The MER challenges' data sets as they lie on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_jax.data.clip_files import ClipFiles, media_files
from mer_jax.data.clips import Clip, Dataset, Problem
from mer_jax.data.tables import read_mapping, read_names
from mer_jax.runtime.errors import DataError


@dataclass(frozen=True)
class MerFiles:
    """Where a challenge keeps its parts, relative to its root; of alternatives the first that exists is read.

    A name may be a pattern. Without any media a clip is what has ready-made features, where `media_optional` allows it.
    """

    labels: tuple[str, ...]  # csv name,discrete
    transcripts: tuple[str, ...] = ("subtitle_chieng.csv",)  # csv name,chinese
    labelled_media: tuple[str, ...] = ("video",)
    candidate_media: tuple[str, ...] = ("video",)
    candidates: tuple[str, ...] = ()  # csv with the candidates' names; none: every file of candidate_media
    warnings: tuple[str, ...] = ()
    media_optional: bool = False


SHARED_CLIPS = (
    "{}'s training set probably contains MER2024's test clips: do not score models trained on the one with the other"
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
        candidates=("track_all_candidates.csv",),
        warnings=(SHARED_CLIPS.format("MER2025"),),
    ),
    "mer2026": MerFiles(
        labels=("track1_train.csv",),
        candidates=("track1_track2_candidate.csv",),
        warnings=(SHARED_CLIPS.format("MER2026"),),
    ),
    "processed": MerFiles(  # what the baseline makes of a challenge's data
        labels=("label.csv", "label-6way.csv", "label-disdim.csv"),
        transcripts=("transcription-merge.csv", "transcription-engchi-polish.csv", "transcription*.csv"),
        labelled_media=("video", "audio"),
        candidate_media=("video", "audio"),
        media_optional=True,
    ),
}


def read_mer(
    root: Path,
    layout: str,
    labels: tuple[str, ...],
    features: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Dataset:
    """Reads a challenge's folder.

    Two optional csv files `name,discrete` hold labels that are used for scoring only: `label-test.csv`, whose
    names also make the test split, and `label-unlabeled.csv`.

    Args:
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
    label_of = read_mapping(first(root, parts.labels), "discrete", problems, labels)
    transcripts = read_mapping(first(root, parts.transcripts), "chinese", problems)
    test_labels, unlabelled_labels = (
        read_mapping(root / file, "discrete", problems, labels) if (root / file).exists() else {}
        for file in ("label-test.csv", "label-unlabeled.csv")
    )
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
        names = candidate_media.keys() | test_labels.keys() | featured
        candidates = sorted(names - label_of.keys() if shared else names)
    both = f"both labelled and a candidate, taken as labelled ({source.name})"
    problems += [Problem(candidate, "train", None, both) for candidate in candidates if candidate in label_of]
    candidates = [candidate for candidate in candidates if candidate not in label_of]

    clips = []
    for clip_name in [*label_of, *candidates]:
        label = label_of.get(clip_name)
        split = "train" if label is not None else "test" if clip_name in test_labels else "unlabeled"
        file = (candidate_media if label is None else media).get(clip_name)
        clip = Clip(clip_name, split, file, transcript=transcripts.get(clip_name, ""), label=label)
        clips.append(files.complete(clip))
    clip_names = {clip.name for clip in clips}
    problems += files.problems(clips, media.keys() - clip_names, parts.labels[0])
    warnings = list(parts.warnings)
    if unheard := sorted(transcripts.keys() - clip_names - media.keys()):
        warnings.append(f"{len(unheard)} transcripts belong to no clip, {unheard[0]!r} first")
    hidden_labels = unlabelled_labels | test_labels
    truth = {candidate: hidden_labels[candidate] for candidate in candidates if candidate in hidden_labels}
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
