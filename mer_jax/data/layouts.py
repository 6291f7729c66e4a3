"""Data sets as they lie on disk: the MER challenges' layouts and anyone's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_jax.data.clips import SPLITS, Clip, Dataset, Problem
from mer_jax.data.tables import read_mapping, read_table
from mer_jax.runtime.errors import DataError

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".flv", ".wmv", ".mpg", ".mpeg", ".3gp", ".ts", ".mts",
)  # fmt: skip
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aiff", ".wma", ".mka")
MEDIA_SUFFIXES = VIDEO_SUFFIXES + SOUND_SUFFIXES
COLUMNS = ("label", "split", "group", "text", "file")  # of a folder's clips.csv, beside its name column


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


def read_mer(
    root: Path,
    layout: str,
    labels: tuple[str, ...],
    features: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Dataset:
    """Reads a challenge's folder (`layout`: a key of MER_FILES).

    Two optional csv files `name,discrete` hold labels that are used for scoring only: `label-test.csv`, whose
    names also make the test split, and `label-unlabeled.csv`. features: as for `read_folder`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set in the {layout} layout")
    files, problems = MER_FILES[layout], list[Problem]()
    labelled = read_mapping(first(root, files.labels), "name", "discrete", problems, labels)
    transcripts = read_mapping(first(root, files.transcripts), "name", "chinese", problems)
    test, known = (
        read_mapping(root / file, "name", "discrete", problems, labels) if (root / file).exists() else {}
        for file in ("label-test.csv", "label-unlabeled.csv")
    )
    features = features or {}
    featured = featured_names(root, features) if files.media_optional else set()
    if featured and not any((root / folder).exists() for folder in files.labelled_media):
        labelled_folder = candidate_folder = root / files.labelled_media[0]  # which is as if empty
    else:
        labelled_folder, candidate_folder = first(root, files.labelled_media), first(root, files.candidate_media)
    labelled_media = media_files(labelled_folder, problems)
    shared = candidate_folder == labelled_folder
    candidate_media = labelled_media if shared else media_files(candidate_folder, problems)
    if files.candidates:
        table = first(root, files.candidates)
        candidates = list(read_mapping(table, "name", "name", problems))
    elif shared:
        table, candidates = None, sorted((candidate_media.keys() | test.keys() | featured) - labelled.keys())
    else:
        table, candidates = None, sorted(candidate_media.keys() | test.keys())
    both = f"both labelled and a candidate, taken as labelled ({table.name if table else candidate_folder.name})"
    problems += [Problem(both_name, "train", None, both) for both_name in candidates if both_name in labelled]

    clips = []
    for clip_name in [*labelled, *(candidate for candidate in candidates if candidate not in labelled)]:
        clips.append(
            Clip(
                name=clip_name,
                split="train" if clip_name in labelled else "test" if clip_name in test else "unlabeled",
                media=(labelled_media if clip_name in labelled else candidate_media).get(clip_name),
                faces=find_crops(root, clip_name),
                transcript=transcripts.get(clip_name, ""),
                label=labelled.get(clip_name),
                features=find_features(root, clip_name, features),
            )
        )
    names = {clip.name for clip in clips}
    orphans = sorted(labelled_media.keys() - names)
    problems += missing_media(clips)
    problems += [Problem(name, "none", None, f"clip without a row in {files.labels[0]}: not used") for name in orphans]
    problems += unused_crops(root, names | set(orphans))
    warnings = list(files.warnings)
    if unheard := sorted(transcripts.keys() - names - set(orphans)):
        warnings.append(f"{len(unheard)} transcripts belong to no clip, {unheard[0]!r} first")
    truth = {clip.name: {**known, **test}[clip.name] for clip in clips if clip.name in known or clip.name in test}
    truth = {clip: label for clip, label in truth.items() if clip not in labelled}
    return Dataset(name or layout, labels, tuple(clips), truth, tuple(problems), tuple(warnings))


def read_folder(root: Path, columns: Mapping[str, str], features: Mapping[str, str]) -> Dataset:
    """Reads a folder data set: `clips.csv` with a `name` column, media under `media/{name}.*`.

    columns: the csv's own names for COLUMNS. A column that the csv lacks is as if empty, but for the label's and those
    with a name of their own. The file column says where a row's media lie, relative to `root`, when that is not
    `media/{name}.*`. The label set is what the label column holds, sorted. Without a split, rows with a label
    are `train` and rows without are `unlabeled`.
    features: modality -> folder name under `features/` with ready-made `{name}.npy`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder data set with clips.csv")
    table = root / "clips.csv"
    problems: list[Problem] = []
    numbers = usable_rows(table, problems)
    renamed = [name for column, name in columns.items() if name != column and column != "label"]
    rows = read_table(table, ("name", columns["label"], *renamed))
    labels = tuple(sorted({row[columns["label"]] for row in rows} - {""}))
    if len(labels) < 2:
        raise DataError(f"{table}: column {columns['label']!r} holds {len(labels)} labels; at least 2 are needed")
    for folder in features.values():
        if not (root / "features" / folder).is_dir():
            raise DataError(f"{root / 'features' / folder}: no such folder of ready-made features")

    media = media_files(root / "media", problems)
    clips, truth = [], {}
    for number, row in enumerate(rows, start=2):
        name, label = row["name"], row[columns["label"]]
        if numbers.get(name) != number:
            continue
        split = row.get(columns["split"]) or ("train" if label else "unlabeled")
        if split not in SPLITS:
            raise DataError(f"{table}, row {number}: unknown split {split!r}; expected {', '.join(SPLITS)}")
        if split == "train" and not label:
            problems.append(Problem(name, "unlabeled", None, "in the train split without a label: taken as unlabeled"))
            split = "unlabeled"
        if split != "train" and label:
            truth[name] = label
        file = root / row[columns["file"]] if row.get(columns["file"]) else media.get(name)
        clips.append(
            Clip(
                name=name,
                split=split,
                media=file if file and file.is_file() else None,
                faces=find_crops(root, name),
                transcript=row.get(columns["text"], ""),
                label=label if split == "train" else None,
                group=row.get(columns["group"]) or None,
                features=find_features(root, name, features),
            )
        )
    used = {clip.media for clip in clips}
    orphans = sorted(name for name, path in media.items() if path not in used)
    problems += missing_media(clips)
    problems += [Problem(name, "none", None, "clip without a row in clips.csv: not used") for name in orphans]
    problems += unused_crops(root, {clip.name for clip in clips} | set(orphans))
    return Dataset(root.resolve().name, labels, tuple(clips), truth, tuple(problems))


def usable_rows(table: Path, problems: list[Problem]) -> dict[str, int]:
    """Name -> number of the first row that has it; other rows are noted in `problems`."""
    names = read_mapping(table, "name", "name", problems)
    numbers = {row["name"]: number for number, row in reversed(list(enumerate(read_table(table, ("name",)), start=2)))}
    return {name: numbers[name] for name in names}


def first(root: Path, names: tuple[str, ...]) -> Path:
    """The first of the files or folders that exists."""
    for name in names:
        for path in sorted(root.glob(name)):
            return path
    raise DataError(f"{root}: {'none of' if len(names) > 1 else 'no'} {', '.join(names)} in it")


def find_crops(root: Path, name: str) -> Path | None:
    """A clip's face crops: the baseline's array, or OpenFace's folder of aligned images."""
    faces = root / "openface_face"
    for path in (
        faces / name / f"{name}.npy",
        faces / f"{name}.npy",
        faces / name / f"{name}_aligned",
        faces / f"{name}_aligned",
    ):
        if path.exists():
            return path
    return None


def unused_crops(root: Path, names: set[str]) -> list[Problem]:
    """A problem for each folder or array of face crops that belongs to none of the names."""
    entries = (root / "openface_face").glob("*")
    found = {path.name.removesuffix(".npy").removesuffix("_aligned") for path in entries}
    return [Problem(name, "none", "image", "face crops without a clip: not used") for name in sorted(found - names)]


def find_features(root: Path, name: str, folders: Mapping[str, str]) -> dict[str, Path]:
    """A clip's ready-made features: modality -> file."""
    paths = {modality: root / "features" / folder / f"{name}.npy" for modality, folder in folders.items()}
    return {modality: path for modality, path in paths.items() if path.exists()}


def featured_names(root: Path, folders: Mapping[str, str]) -> set[str]:
    """Names of the clips that have ready-made features of any modality."""
    return {path.stem for folder in folders.values() for path in (root / "features" / folder).glob("*.npy")}


def media_files(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Clip name -> media file, for every media file of a folder (which may be missing); video before sound."""
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    paths = [path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES]
    for path in sorted(paths, key=lambda path: (path.suffix.lower() in SOUND_SUFFIXES, path.name)):
        if path.stem in found:
            problems.append(
                Problem(path.stem, "none", None, f"two files ({found[path.stem].name} is read, {path.name} is not)")
            )
        else:
            found[path.stem] = path
    return found


def missing_media(clips: list[Clip]) -> list[Problem]:
    """A problem for each clip that has neither media nor ready-made features."""
    return [
        Problem(clip.name, clip.split, None, "row without a clip")
        for clip in clips
        if clip.media is None and not clip.features
    ]
