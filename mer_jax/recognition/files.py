"""Which media files, or parts of them, an input names."""

import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mer_jax.data.clip_files import MEDIA_SUFFIXES, is_media, located
from mer_jax.data.clips import valid_modalities
from mer_jax.data.decoding import identity
from mer_jax.data.labels import UNSAID, is_missing
from mer_jax.data.recording import WHOLE, Window
from mer_jax.data.tables import read_table
from mer_jax.defaults import MODALITIES
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import printable

LISTED = 20  # names of files that are no media


class File(NamedTuple):
    """A media file, or a part of one, and what is known of it."""

    path: Path
    text: str = ""  # what is said in it
    group: str | None = None  # speaker or dialogue
    window: Window = WHOLE
    hidden: tuple[str, ...] = ()  # modalities that do not count, whatever is in it

    @property
    def named(self) -> dict[str, Any]:
        """The beginning of its line."""
        part = {} if self.window == WHOLE else {"start": self.window.start, "end": finite_or_none(self.window.end)}
        return {"file": printable(self.path), **part}

    @property
    def described(self) -> list[Any]:
        """All that is known of it, and what its content is named by."""
        known = [printable(self.path), identity(self.path), self.text, self.group]
        known += [f"without {'+'.join(self.hidden)}"] * bool(self.hidden)
        return known if self.window == WHOLE else [*known, list(self.window)]


def finite_or_none(second: float) -> float | None:
    """A time for JSON."""
    return second if math.isfinite(second) else None


def media(inputs: Sequence[str], own: Sequence[str] = ()) -> Iterator[File]:
    """The media files that files, folders and tables name, in order.

    own: modalities of the run beside MODALITIES, which a table may name; no media file has them.

    Raises:
        DataError: an input is not there, or names none.
    """
    for entry in map(Path, inputs):
        if entry.is_dir():
            yield from map(File, media_under(entry))
        elif entry.suffix.lower() == ".csv":
            optional = ("text", "group", "start", "end", "modalities")
            for number, row in enumerate(read_table(entry, ("file",), optional), start=2):
                text, group, place = row.get("text", ""), row.get("group", ""), f"{entry}, row {number}"
                hidden = hidden_in(row, place, own)
                spoken, known = "" if text in UNSAID or "text" in hidden else text, None if is_missing(group) else group
                yield File(located(entry.parent, row["file"]), spoken, known, window_of(row, place), hidden)
        elif entry.exists():
            yield File(entry)
        else:
            raise DataError(f"{entry}: no such file or folder")


def media_under(folder: Path) -> list[Path]:
    """The media files of a folder and its subfolders, by name; a line on standard error accounts for all others."""
    files = sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
    hidden = {path for path in files if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    taken = [path for path in files if is_media(path) and path not in hidden]
    others = [printable(path.relative_to(folder)) for path in files if path not in {*taken}]
    if others:
        suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in others[LISTED:])
        rest = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common())
        names = ", ".join(others[:LISTED]) + f" and {len(others) - LISTED:,} more ({rest})" * bool(rest)
        verb = "file is" if len(others) == 1 else "files are"
        print(f"{folder}: {len(others):,} {verb} no media: {names}", file=sys.stderr)
    if not taken:
        suffixes_known = f".mp4, .wav and {len(MEDIA_SUFFIXES) - 2} other suffixes"
        raise DataError(f"{folder}: no media file in it (looked for {suffixes_known})")
    return taken


def hidden_in(row: dict[str, str], place: str, own: Sequence[str]) -> tuple[str, ...]:
    """Those of MODALITIES that do not count by a table's row. Raises DataError for one that is unknown."""
    try:
        valid = valid_modalities(row.get("modalities", ""), (*MODALITIES, *own))
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    return () if valid is None else tuple(name for name in MODALITIES if name not in valid)


def window_of(row: dict[str, str], place: str) -> Window:
    """The part of a recording that a table's row names. Raises DataError for what is none."""
    cells = [row.get(name, "") for name in Window._fields]
    given = [None if is_missing(cell) else cell for cell in cells]
    try:
        start, end = (default if cell is None else float(cell) for cell, default in zip(given, WHOLE, strict=True))
    except ValueError:
        start, end = math.nan, math.nan
    if not (0 <= start < end and math.isfinite(start)):
        raise DataError(f"{place}: start {cells[0]!r} and end {cells[1]!r} are no part: expected seconds, start < end")
    return Window(start, end)
