"""Reading the csv files that describe a data set, with errors that say what is wrong and where."""

import csv
import io
import re
import sys
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from mer_jax.data.clip_files import key_of
from mer_jax.data.clips import Problem
from mer_jax.data.encodings import decode
from mer_jax.data.labels import spelling_key
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import MOST_BYTES, open_regular, shown

UNUSABLE = frozenset("/\\\0")  # in names, which become names of files
LONGEST_NAME = 200  # bytes
MOST_ROWS = 2**21  # of a table
SHOWN = 20  # of a table's columns, where one is lacking
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # byte order marks of joined files, and what is copied from web pages
# Texts with quotes behind backslashes, which all stand before what they escape.
BACKSLASHES = re.compile(r'(?=.*\\")(?:[^\\]|\\["\\,;\t|])*', re.DOTALL)
csv.field_size_limit(2**24)  # characters of a cell; a transcript may be longer than the library's 2**17
BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + INVISIBLE


def read_table(path: Path, columns: tuple[str, ...], optional: Collection[str] = ()) -> list[dict[str, str]]:
    """Rows of a csv file as dictionaries of stripped strings.

    Its cells are separated by commas, semicolons, tabs or bars, whichever the header shows (or `sep=;` above it). It is
    UTF-8 or UTF-16, or in an encoding that its text tells (mer_jax/data/encodings.py). The quote that `write_csv` puts
    before what a spreadsheet would run is taken away.

    Args:
        columns: those that it must have.
        optional: those that would be read as well, and may not stand twice either.

    Raises:
        DataError: the file is missing, unreadable, or lacks one of `columns`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a csv with the columns {', '.join(columns)}")
    try:
        with open_regular(path, MOST_BYTES) as file:
            text, encoding = decode(file.read())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise DataError(f"{path}: {error}; save it as UTF-8 (in Excel: Save As, CSV UTF-8)") from error
    if not encoding.startswith(("utf-8", "utf-16", "utf-32")):
        print(f"{path}: not UTF-8, read as {encoding}", file=sys.stderr)
    separator, text = separated_by(text.lstrip(INVISIBLE).rstrip("\r\n\x1a"), columns)  # with DOS's end of files
    try:
        lines = parsed(text, separator)
    except csv.Error as error:
        raise DataError(f"{path}: not a well-formed csv ({error})") from error
    if len(lines) > MOST_ROWS:
        raise DataError(f"{path}: more than {MOST_ROWS:,} rows: cut it")
    header, *rows = [row for line in lines if any(row := [shown(cell.strip(BLANK)) for cell in line])] or [[]]
    if doubled := [column for column in (*columns, *optional) if header.count(column) > 1]:
        raise DataError(f"{path}: the column {doubled[0]!r} stands twice; keep one")
    if missing := [column for column in dict.fromkeys(columns) if column not in header]:
        alike = [name for name in header if name and spelling_key(name) in map(spelling_key, missing)]
        hint = f" (is it {', '.join(map(repr, alike))}?)" if alike else ""
        has = ", ".join(filter(None, header[:SHOWN])) + ", ..." * (len(header) > SHOWN) or "none"
        raise DataError(f"{path}: no column {', '.join(map(repr, missing))}; it has {has}{hint}")
    for row in rows:
        if any(row[len(header) :]):
            kind = SEPARATORS.get(separator, repr(separator))
            raise DataError(
                f"{path}: the row of {row[0]!r} has {len(row)} cells under {len(header)} columns; "
                f'put text that holds {kind} in "quotes"'
            )
    return [dict(zip(header, row + [""] * len(header), strict=False)) for row in rows]


def parsed(text: str, separator: str, **escapes: str) -> list[list[str]]:
    """The rows of cells; quotes inside quotes are doubled, or else stand behind backslashes, as databases write them.

    Raises:
        csv.Error: the line, and what is wrong there.
    """
    file = io.StringIO(text, newline="")
    reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True, **escapes)  # type: ignore[arg-type]
    try:
        return list(islice(reader, MOST_ROWS + 1))
    except csv.Error as error:
        if not escapes and BACKSLASHES.fullmatch(text):
            return parsed(text, separator, escapechar="\\")
        raise csv.Error(f"line {reader.line_num}: {error}") from error


def separated_by(text: str, columns: tuple[str, ...]) -> tuple[str, str]:
    """The separator that a csv's header shows, and the text from the header on."""
    first, *rest = text.split("\n", 1) if "\n" in text else text.split("\r", 1)
    if stated := re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE):  # as Excel reads and writes it
        return stated[1], "".join(rest)

    def shows(separator: str) -> tuple[int, int]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        try:
            header = next((line for line in lines if any(map(str.strip, line))), [])
        except csv.Error:
            return 0, 0
        return sum(cell.strip(BLANK) in columns for cell in header), len(header)

    return max(SEPARATORS, key=shows), text


def is_usable(name: str) -> bool:
    """Whether a clip's name can be that of a file: crops and features are written under it, in every layout."""
    length = len(name.encode(errors="replace"))
    return 0 < length <= LONGEST_NAME and name not in (".", "..") and UNUSABLE.isdisjoint(name)


def named_rows(
    path: Path,
    rows: list[dict[str, str]],
    problems: list[Problem],
    column: str = "",
    allowed: tuple[str, ...] | None = None,
) -> dict[str, tuple[int, dict[str, str]]]:
    """Name of a clip -> number and cells of the first usable row that has it in its `name` column.

    Rows that hold a NUL, or whose name is empty, doubled (see `key_of`) or cannot name a file, and rows whose `column`
    is not among `allowed` where that is given, are left out and noted in `problems`.

    Raises:
        DataError: no row is left of those there are.
    """
    usable: dict[str, tuple[int, dict[str, str]]] = {}
    names: dict[str, str] = {}  # by what stands for one clip
    before = len(problems)
    for number, row in enumerate(rows, start=2):
        name, place = row["name"], f"{path.name}, row {number}"
        if not name:
            reason = f"empty name ({place})"
        elif not is_usable(name):
            reason = f"the name cannot be a file's ({place})"
        elif "\0" in "".join(row.values()):
            reason = f"a cell holds the byte 0, which no text does: the row is damaged ({place})"
        elif (first := names.get(key_of(name))) is not None:
            same = column and ("the same" if row[column] == usable[first][1][column] else "another")
            spelt = f", as {first!a}" if first != name else ""
            reason = f"the name stands twice, the first row counts ({place}{spelt}{same and f', with {same} {column}'})"
        elif allowed is not None and row[column] not in allowed:
            alike = [label for label in allowed if spelling_key(label) == spelling_key(row[column])]
            hint = f"{row[column]!r} is another spelling of {alike[0]!r}" if alike else repr(row[column])
            reason = f"unknown {column} ({place}: {hint}; expected one of {', '.join(allowed)})"
        else:
            usable[name] = number, row
            names[key_of(name)] = name
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
