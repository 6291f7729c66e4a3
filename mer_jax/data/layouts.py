"""Data sets as they lie on disk: the MER challenges' layouts and anyone's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_jax.data.clips import SPLITS, Clip, Dataset, Problem
from mer_jax.data.tables import read_mapping, read_table
from mer_jax.errors import DataError

MEDIA_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".wav", ".flac", ".mp3", ".m4a", ".ogg")


@dataclass(frozen=True)
class MerFiles:
    """Where one year's challenge keeps its parts, relative to its root."""

    labels: str  # csv name,discrete
    transcripts: str  # csv name,chinese
    labelled_media: tuple[str, ...]  # the first folder that exists is read
    candidate_media: tuple[str, ...]
    candidates: str | None = None  # csv with the candidates' names; None: every file of candidate_media


MER_FILES = {
    "mer2024": MerFiles(
        labels="label-disdim.csv",
        transcripts="label-transcription.csv",
        labelled_media=("video-labeled",),
        candidate_media=("video-unlabeled-with-test2noise", "video-unlabeled"),
    ),
    "mer2025": MerFiles(
        labels="track1_train_disdim.csv",
        transcripts="subtitle_chieng.csv",
        labelled_media=("video",),
        candidate_media=("video",),
        candidates="track_all_candidates.csv",
    ),
    "mer2026": MerFiles(
        labels="track1_train.csv",
        transcripts="subtitle_chieng.csv",
        labelled_media=("video",),
        candidate_media=("video",),
        candidates="track1_track2_candidate.csv",
    ),
}


def read_mer(root: Path, layout: str, labels: tuple[str, ...], name: str | None = None) -> Dataset:
    """Reads a challenge's folder (`layout`: a key of MER_FILES).

    Two optional csv files `name,discrete` hold labels that are used for scoring only: `label-test.csv`, whose
    names also make the test split, and `label-unlabeled.csv`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set in the {layout} layout")
    files = MER_FILES[layout]
    labelled = read_mapping(root / files.labels, "name", "discrete", labels)
    transcripts = read_mapping(root / files.transcripts, "name", "chinese")
    test, known = (
        read_mapping(root / file, "name", "discrete", labels) if (root / file).exists() else {}
        for file in ("label-test.csv", "label-unlabeled.csv")
    )
    labelled_media = media_files(first_folder(root, files.labelled_media))
    candidate_media = media_files(first_folder(root, files.candidate_media))
    if files.candidates:
        candidates = [row["name"] for row in read_table(root / files.candidates, ("name",))]
    else:
        candidates = sorted(candidate_media.keys() | test.keys())
    doubled = sorted(set(candidates) & labelled.keys())
    if doubled:
        raise DataError(f"{root}: {len(doubled)} names are both labelled and candidates, {doubled[0]!r} first")

    faces = root / "openface_face"
    clips = []
    for clip_name in [*labelled, *candidates]:
        media = (labelled_media if clip_name in labelled else candidate_media).get(clip_name)
        crops = faces / clip_name / f"{clip_name}.npy"
        split = "train" if clip_name in labelled else "test" if clip_name in test else "unlabeled"
        clips.append(
            Clip(
                name=clip_name,
                split=split,
                media=media,
                faces=crops if crops.exists() else None,
                transcript=transcripts.get(clip_name, ""),
                label=labelled.get(clip_name),
            )
        )
    orphans = sorted(labelled_media.keys() - labelled.keys() - set(candidates))
    problems = missing_media(clips) + [
        Problem(orphan, "none", None, f"clip without a row in {files.labels}: not used") for orphan in orphans
    ]
    return Dataset(name or layout, labels, tuple(clips), {**known, **test}, tuple(problems))


def read_folder(root: Path, columns: Mapping[str, str], features: Mapping[str, str]) -> Dataset:
    """Reads a folder data set: `clips.csv` with a `name` column, media under `media/{name}.*`.

    columns: names of the csv's label, split, group and text columns. A column that the csv lacks is as if
    empty (an explicit name that it lacks is an error only for the label). The label set is what the label
    column holds, sorted. Without a split, rows with a label are `train` and rows without are `unlabeled`.
    features: modality -> folder name under `features/` with ready-made `{name}.npy`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder data set with clips.csv")
    table = root / "clips.csv"
    rows = read_table(table, ("name", columns["label"]))
    names = read_mapping(table, "name", "name")  # refuses empty and doubled names
    labels = tuple(sorted({row[columns["label"]] for row in rows} - {""}))
    if len(labels) < 2:
        raise DataError(f"{table}: column {columns['label']!r} holds {len(labels)} labels; at least 2 are needed")
    for folder in features.values():
        if not (root / "features" / folder).is_dir():
            raise DataError(f"{root / 'features' / folder}: no such folder of ready-made features")

    media = media_files(root / "media")
    clips, truth = [], {}
    for number, row in enumerate(rows, start=2):
        name, label = row["name"], row[columns["label"]]
        split = row.get(columns["split"]) or ("train" if label else "unlabeled")
        if split not in SPLITS:
            raise DataError(f"{table}, row {number}: unknown split {split!r}; expected {', '.join(SPLITS)}")
        if split == "train" and not label:
            raise DataError(f"{table}, row {number}: {name!r} is in the train split but has no label")
        if split != "train" and label:
            truth[name] = label
        crops = root / "openface_face" / name / f"{name}.npy"
        arrays = {modality: root / "features" / folder / f"{name}.npy" for modality, folder in features.items()}
        clips.append(
            Clip(
                name=name,
                split=split,
                media=media.get(name),
                faces=crops if crops.exists() else None,
                transcript=row.get(columns["text"], ""),
                label=label if split == "train" else None,
                group=row.get(columns["group"]) or None,
                features={modality: path for modality, path in arrays.items() if path.exists()},
            )
        )
    orphans = sorted(media.keys() - names.keys())
    problems = missing_media(clips) + [
        Problem(orphan, "none", None, "clip without a row in clips.csv: not used") for orphan in orphans
    ]
    return Dataset(root.resolve().name, labels, tuple(clips), truth, tuple(problems))


def first_folder(root: Path, names: tuple[str, ...]) -> Path:
    """The first of the folders that exists."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: none of the folders {', '.join(names)} is there")


def media_files(folder: Path) -> dict[str, Path]:
    """Clip name -> media file, for every media file of a folder (which may be missing)."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in MEDIA_SUFFIXES}


def missing_media(clips: list[Clip]) -> list[Problem]:
    """A problem for each clip that has neither media nor ready-made features."""
    return [
        Problem(clip.name, clip.split, None, "row without a clip")
        for clip in clips
        if clip.media is None and not clip.features
    ]
