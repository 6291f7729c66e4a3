"""Reading the csv files that describe a data set, with errors that say what is wrong and where."""

import csv
import io
from pathlib import Path

from mer_jax.data.clips import Problem
from mer_jax.runtime.errors import DataError

UNUSABLE = frozenset("/\\\0")  # in names, which become names of files
LONGEST_NAME = 200  # bytes


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a csv file as dictionaries of stripped strings (UTF-8 with or without BOM, or GB18030).

    Raises:
        DataError: the file is missing, unreadable, or lacks one of `columns`.
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
        lines = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise DataError(f"{path}: not a well-formed csv ({error})") from error
    header, *rows = [line for line in lines if any(line)] or [[]]
    if doubled := [column for column in columns if header.count(column) > 1]:
        raise DataError(f"{path}: the column {doubled[0]!r} stands twice; keep one")
    for row in rows:
        if any(row[len(header) :]):
            raise DataError(
                f"{path}: the row of {row[0]!r} has {len(row)} cells under {len(header)} columns; "
                'put text that holds commas in "quotes"'
            )
    if missing := [column for column in columns if column not in header]:
        raise DataError(f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(header) or 'none'}")
    return [dict(zip(header, row + [""] * len(header), strict=False)) for row in rows]


def named_rows(
    path: Path,
    rows: list[dict[str, str]],
    problems: list[Problem],
    column: str = "",
    allowed: tuple[str, ...] | None = None,
) -> dict[str, tuple[int, dict[str, str]]]:
    """Name of a clip -> number and cells of the first usable row that has it in its `name` column.

    Rows whose name is empty, doubled or cannot name a file, and rows whose `column` is not among `allowed` where that
    is given, are left out and noted in `problems`.

    Raises:
        DataError: no row is left of those there are.
    """
    usable: dict[str, tuple[int, dict[str, str]]] = {}
    before = len(problems)
    for number, row in enumerate(rows, start=2):
        name, place = row["name"], f"{path.name}, row {number}"
        if not name:
            reason = f"empty name ({place})"
        elif len(name.encode()) > LONGEST_NAME or name in (".", "..") or not UNUSABLE.isdisjoint(name):
            reason = f"the name cannot be a file's ({place})"
        elif name in usable:
            same = column and ("the same" if row[column] == usable[name][1][column] else "another")
            reason = f"the name stands twice, the first row counts ({place}{same and f', with {same} {column}'})"
        elif allowed is not None and row[column] not in allowed:
            reason = f"unknown {column} ({place}: {row[column]!r}; expected one of {', '.join(allowed)})"
        else:
            usable[name] = number, row
            continue
        problems.append(Problem(name or "?", "none", None, reason))
    if rows and not usable:
        raise DataError(f"{path}: none of its {len(rows)} rows can be used: {problems[before].reason}")
    return usable


def read_mapping(
    path: Path, column: str, problems: list[Problem], allowed: tuple[str, ...] | None = None
) -> dict[str, str]:
    """Name of a clip -> what a csv file has for it in a column; see `named_rows`."""
    rows = named_rows(path, read_table(path, ("name", column)), problems, column, allowed)
    return {name: row[column] for name, (_, row) in rows.items()}


def read_names(path: Path, problems: list[Problem]) -> list[str]:
    """The names of clips that a csv file lists; see `named_rows`."""
    return list(named_rows(path, read_table(path, ("name",)), problems))
