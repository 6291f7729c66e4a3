"""Reading the csv files that describe a data set, with errors that say what is wrong and where."""

import csv
import io
from pathlib import Path

from mer_jax.errors import DataError


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a csv file as dictionaries of stripped strings (UTF-8 with or without BOM, or GB18030).

    Raises DataError when the file is missing, unreadable, or lacks one of `columns`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a csv with the columns {', '.join(columns)}")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = raw.decode("gb18030")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: neither UTF-8 nor GB18030 text; save it as UTF-8") from error
    try:
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path}: not a well-formed csv ({error})") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(header) or 'none'}")
    return [
        {key: (cell or "").strip() for key, cell in zip(header, row + [""] * len(header), strict=False)}
        for row in lines[1:]
    ]


def read_mapping(path: Path, key: str, value: str, known: tuple[str, ...] | None = None) -> dict[str, str]:
    """One column of a csv keyed by another.

    Raises DataError on an empty or doubled key, and on values outside `known` when it is given.
    """
    mapping: dict[str, str] = {}
    for number, row in enumerate(read_table(path, (key, value)), start=2):
        name = row[key]
        if not name:
            raise DataError(f"{path}, row {number}: empty {key!r}")
        if name in mapping:
            raise DataError(f"{path}, row {number}: {name!r} stands twice; each {key} must be unique")
        if known is not None and row[value] not in known:
            raise DataError(f"{path}, row {number}: unknown {value} {row[value]!r}; expected one of {', '.join(known)}")
        mapping[name] = row[value]
    return mapping
