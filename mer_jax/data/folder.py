"""Anyone's folder as a data set: `clips.csv`, media, and perhaps face crops and ready-made features."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from mer_jax.data.clip_files import ClipFiles, check_names, located, media_files, media_of_name, no_media
from mer_jax.data.clips import SPLITS, Clip, Dataset, Problem
from mer_jax.data.labels import MISSING, UNSAID, rarer_spellings
from mer_jax.data.tables import named_rows, read_table
from mer_jax.runtime.errors import DataError

COLUMNS = ("label", "split", "group", "text", "file")  # of clips.csv, beside its name column
VALIDATION = ("val", "dev", "valid", "validation")  # what others call a part that folds of the train split stand for


def read_folder(root: Path, columns: Mapping[str, str], features: Mapping[str, str]) -> Dataset:
    """Reads a folder data set: `clips.csv` with a `name` column, media under `media/{name}.*`.

    A name may carry the suffix of its media file; the clip bears it as the table has it. Without a split, rows with a
    label are `train` and rows without are `unlabeled`. The label set is what the label column holds, sorted. Markers of
    missing values (see `labels.MISSING`) are as empty, and of one label in two spellings the rarer is none: a problem
    says so for each row.

    Args:
        columns: the csv's own names for COLUMNS. A column that the csv lacks is as if empty, but for the label's and
            those with a name of their own. The file column says where a row's media lie, relative to `root`, when that
            is not `media/{name}.*`.
        features: modality -> folder name under `features/` with ready-made `{name}.npy`.

    Raises:
        DataError: a part is missing, the table cannot be used as it is, or there are media but none of a row's.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder data set with clips.csv")
    table, files, problems = root / "clips.csv", ClipFiles(root, features), list[Problem]()
    renamed = [name for column, name in columns.items() if name != column and column != "label"]
    rows = read_table(table, ("name", columns["label"], *renamed), columns.values())
    usable_rows = named_rows(table, rows, problems)
    counts = Counter(row[columns["label"]] for row in rows if row[columns["label"]] not in MISSING)
    others = rarer_spellings(counts)
    labels = tuple(sorted(counts.keys() - others.keys()))
    if len(labels) < 2:
        raise DataError(f"{table}: column {columns['label']!r} holds {len(labels)} labels; at least 2 are needed")
    for folder in features.values():
        if not (root / "features" / folder).is_dir():
            raise DataError(f"{root / 'features' / folder}: no such folder of ready-made features")

    media = media_files(root / "media", problems)
    clips, truth, lost = [], {}, []
    for name, (number, row) in usable_rows.items():
        place = f"{table.name}, row {number}"
        cells = {column: row.get(header, "") for column, header in columns.items()}
        for column, cell in cells.items():
            if cell and cell in (UNSAID if column == "text" else MISSING):
                problems.append(
                    Problem(name, "none", None, f"no {column}: a marker of what is missing ({place}: {cell!r})")
                )
                cells[column] = ""
        label = cells["label"]
        if common := others.get(label):
            of = f"{place}: {label!r} in {counts[label]} rows, {common!r} in {counts[common]}"
            problems.append(
                Problem(name, "none", None, f"one label in two spellings, the rarer is taken as no label ({of})")
            )
            label = ""
        split = cells["split"].lower() or ("train" if label else "unlabeled")
        if split not in SPLITS:
            advice = "; write train: folds of it are held out in turn" if split in VALIDATION else ""
            raise DataError(
                f"{table}, row {number}: unknown split {cells['split']!r}; expected {', '.join(SPLITS)}{advice}"
            )
        if split == "train" and not label:
            problems.append(Problem(name, "unlabeled", None, "in the train split without a label: taken as unlabeled"))
            split = "unlabeled"
        if split != "train" and label:
            truth[name] = label
        path = located(root, cells["file"]) if cells["file"] else media_of_name(media, name)
        if path and not path.is_file():
            lost.append(Problem(name, split, None, f"row without a clip (no file {path})"))
            path = None
        known, group = label if split == "train" else None, cells["group"] or None
        clips.append(files.complete(Clip(name, split, path, transcript=cells["text"], label=known, group=group)))
    warnings = check_names(root / "media", clips, media, table.name)
    for label, common in others.items():
        spelt = f"{label!r} ({counts[label]:,} rows) and {common!r} ({counts[common]:,})"
        warnings.append(f"{spelt} are one label in two spellings: the rarer is taken as no label; write one")
    if unsure := sorted(label for label in labels if label.lower() in ("none", "unknown")):
        warnings.append(f"{unsure[0]!r} is taken as a label like any other: leave the cell empty where none is known")
    if others_there := no_media(root / "media"):
        problems.append(Problem("media", "none", None, f"files beside the media ({others_there})"))
    used, named = {clip.media for clip in clips}, {problem.name for problem in lost}
    without = files.problems(clips, (name for name, path in media.items() if path not in used), table.name)
    problems += lost + [p for p in without if not (p.name in named and p.reason == "row without a clip")]
    return Dataset(root.resolve().name, labels, tuple(clips), truth, tuple(problems), tuple(warnings))
