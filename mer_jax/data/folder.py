"""Anyone's folder as a data set: `clips.csv`, media, and perhaps face crops and ready-made features."""

from collections.abc import Mapping
from pathlib import Path

from mer_jax.data.clip_files import ClipFiles, media_files
from mer_jax.data.clips import SPLITS, Clip, Dataset, Problem
from mer_jax.data.tables import named_rows, read_table
from mer_jax.runtime.errors import DataError

COLUMNS = ("label", "split", "group", "text", "file")  # of clips.csv, beside its name column


def read_folder(root: Path, columns: Mapping[str, str], features: Mapping[str, str]) -> Dataset:
    """Reads a folder data set: `clips.csv` with a `name` column, media under `media/{name}.*`.

    Without a split, rows with a label are `train` and rows without are `unlabeled`. The label set is what the label
    column holds, sorted.

    Args:
        columns: the csv's own names for COLUMNS. A column that the csv lacks is as if empty, but for the label's and
            those with a name of their own. The file column says where a row's media lie, relative to `root`, when that
            is not `media/{name}.*`.
        features: modality -> folder name under `features/` with ready-made `{name}.npy`.

    Raises:
        DataError: a part is missing, or the table cannot be used as it is.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder data set with clips.csv")
    table, files, problems = root / "clips.csv", ClipFiles(root, features), list[Problem]()
    renamed = [name for column, name in columns.items() if name != column and column != "label"]
    rows = read_table(table, ("name", columns["label"], *renamed))
    usable_rows = named_rows(table, rows, problems)
    labels = tuple(sorted({row[columns["label"]] for row in rows} - {""}))
    if len(labels) < 2:
        raise DataError(f"{table}: column {columns['label']!r} holds {len(labels)} labels; at least 2 are needed")
    for folder in features.values():
        if not (root / "features" / folder).is_dir():
            raise DataError(f"{root / 'features' / folder}: no such folder of ready-made features")

    media = media_files(root / "media", problems)
    clips, truth = [], {}
    for name, (number, row) in usable_rows.items():
        cells = {column: row.get(header, "") for column, header in columns.items()}
        label, split = cells["label"], cells["split"] or ("train" if cells["label"] else "unlabeled")
        if split not in SPLITS:
            raise DataError(f"{table}, row {number}: unknown split {split!r}; expected {', '.join(SPLITS)}")
        if split == "train" and not label:
            problems.append(Problem(name, "unlabeled", None, "in the train split without a label: taken as unlabeled"))
            split = "unlabeled"
        if split != "train" and label:
            truth[name] = label
        path = root / cells["file"] if cells["file"] else media.get(name)
        file = path if path and path.is_file() else None
        known, group = label if split == "train" else None, cells["group"] or None
        clips.append(files.complete(Clip(name, split, file, transcript=cells["text"], label=known, group=group)))
    used_media = {clip.media for clip in clips}
    problems += files.problems(clips, (name for name, path in media.items() if path not in used_media), table.name)
    return Dataset(root.resolve().name, labels, tuple(clips), truth, tuple(problems))
