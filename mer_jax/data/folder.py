"""Anyone's folder as a data set: `clips.csv`, media, and perhaps face crops and ready-made features."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mer_jax.data.clip_files import ClipFiles, check_names, located, media_files, media_of_name, no_media
from mer_jax.data.clips import SPLITS, Clip, Dataset, Problem, valid_modalities
from mer_jax.data.labels import UNSAID, is_missing, rarer_spellings
from mer_jax.data.tables import named_rows, read_table
from mer_jax.defaults import MODALITIES
from mer_jax.runtime.errors import DataError

COLUMNS = ("label", "split", "group", "text", "file", "modalities")  # of clips.csv, beside its name column
VALIDATION = ("val", "dev", "valid", "validation")  # what others call a part that folds of the train split stand for


def read_folder(
    root: Path, columns: Mapping[str, str], features: Mapping[str, str], own: Sequence[str] = ()
) -> Dataset:
    """Reads a folder data set: `clips.csv` with a `name` column, media under `media/{name}.*`.

    A name may carry the suffix of its media file; the clip bears it as the table has it. Without a split, rows with a
    label are `train` and rows without are `unlabeled`. The label set is what the label column holds, sorted. Markers of
    missing values (`labels.is_missing`) are as empty, and of one label in two spellings the rarer is none: a problem
    says so for each row.

    Args:
        columns: the csv's own names for COLUMNS. A column that the csv lacks is as if empty, but for the label's and
            those with a name of their own. The file column says where a row's media lie, relative to `root`, when that
            is not `media/{name}.*`; the modalities' one which of them count (see `valid_modalities`).
        features: stream -> folder name under `features/` with ready-made `{name}.npy`.
        own: modalities that stand beside MODALITIES.

    Raises:
        DataError: a part is missing, the table cannot be used as it is, or there are media but none of a row's.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder data set with clips.csv")
    table, files, problems = root / "clips.csv", ClipFiles(root, features), list[Problem]()
    renamed = [name for column, name in columns.items() if name not in (column, "") and column != "label"]
    rows = read_table(table, ("name", columns["label"], *renamed), columns.values())
    usable_rows = named_rows(table, rows, problems)
    cells = Cells(table, columns, Counter(row[columns["label"]] for row in rows), problems)
    if len(cells.labels) < 2:
        count = len(cells.labels)
        raise DataError(f"{table}: column {columns['label']!r} holds {count} labels; at least 2 are needed")

    media = media_files(root / "media", problems)
    clips, truth, lost = [], {}, {}
    for name, (number, row) in usable_rows.items():
        said = cells.of(name, number, row)
        label, split = said["label"], said["split"]
        if split != "train" and label:
            truth[name] = label
        path = located(root, said["file"]) if said["file"] else media_of_name(media, name)
        if path and not path.is_file():
            lost[name] = Problem(name, split, None, f"row without a clip (no file {path})")
            path = None
        known, group = label if split == "train" else None, said["group"] or None
        clip = files.complete(Clip(name, split, path, transcript=said["text"], label=known, group=group))
        valid = cells.modalities(said["modalities"], number, (*MODALITIES, *own))
        clips.append(clip if valid is None else replace(clip, modalities=valid))
    warnings = [*check_names(root / "media", clips, media, table.name), *cells.warnings()]
    if beside := no_media(root / "media"):
        problems.append(Problem("media", "none", None, f"files beside the media ({beside})"))
    used = {clip.media for clip in clips}
    without = files.problems(clips, (name for name, path in media.items() if path not in used), table.name)
    problems += lost.values()
    problems += [each for each in without if not (each.name in lost and each.reason == "row without a clip")]
    return Dataset(root.resolve().name, cells.labels, tuple(clips), truth, tuple(problems), tuple(warnings))


class Cells:
    """What the rows of `clips.csv` say, with what is odd about them noted in `problems`.

    counts: what stands in the label's column -> in how many rows.
    """

    def __init__(self, table: Path, columns: Mapping[str, str], counts: Mapping[str, int], problems: list[Problem]):
        self.table, self.columns, self.problems = table, columns, problems
        self.counts = {label: count for label, count in counts.items() if not is_missing(label)}
        self.common = rarer_spellings(self.counts)  # a rarer spelling -> the label
        self.labels = tuple(sorted(self.counts.keys() - self.common.keys()))

    def of(self, name: str, number: int, row: Mapping[str, str]) -> dict[str, str]:
        """A row's cells by COLUMNS, "" for what is missing, the split always one of SPLITS.

        Raises:
            DataError: its split is none.
        """
        place = f"{self.table.name}, row {number}"
        cells = {column: row.get(header, "") if header else "" for column, header in self.columns.items()}
        for column, cell in cells.items():
            if column != "modalities" and cell and (cell in UNSAID if column == "text" else is_missing(cell)):
                self.note(name, f"no {column}: a marker of what is missing ({place}: {cell!r})")
                cells[column] = ""
        if common := self.common.get(cells["label"]):
            spelt = f"{place}: {self.spelt(cells['label'], common)}"
            self.note(name, f"one label in two spellings, the rarer is taken as no label ({spelt})")
            cells["label"] = ""
        split = cells["split"].lower() or ("train" if cells["label"] else "unlabeled")
        if split not in SPLITS:
            advice = "; write train: folds of it are held out in turn" if split in VALIDATION else ""
            wrong = f"unknown split {cells['split']!r}; expected {', '.join(SPLITS)}{advice}"
            raise DataError(f"{self.table}, row {number}: {wrong}")
        if split == "train" and not cells["label"]:
            self.note(name, "in the train split without a label: taken as unlabeled", split="unlabeled")
            split = "unlabeled"
        return cells | {"split": split}

    def modalities(self, cell: str, number: int, known: Sequence[str]) -> tuple[str, ...] | None:
        """See `valid_modalities`. Raises DataError where it refuses."""
        try:
            return valid_modalities(cell, dict.fromkeys(known))
        except ValueError as error:
            other = f"{self.columns['modalities']} holds something else? modalities_column= reads no such column"
            raise DataError(f"{self.table}, row {number}: {error} ({other})") from error

    def note(self, name: str, reason: str, split: str = "none") -> None:
        self.problems.append(Problem(name, split, None, reason))

    def spelt(self, label: str, common: str) -> str:
        """Two spellings of one label, and how many rows have them."""
        return f"{label!r} in {self.counts[label]:,} rows, {common!r} in {self.counts[common]:,} rows"

    def warnings(self) -> Iterator[str]:
        """What should be known before a score is trusted."""
        for label, common in self.common.items():
            yield f"one label in two spellings, the rarer is taken as no label: {self.spelt(label, common)}; write one"
        for label in self.labels:
            if label.lower() in ("none", "unknown"):
                yield f"{label!r} is taken as a label like any other: leave the cell empty where none is known"
