"""Writing files so that a reader, or a second start after a kill, finds the whole file or none of it."""

import csv
import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from mer_jax.runtime.errors import DataError

MOST_BYTES = 2**27  # of a JSON file or table: what is read into memory at once
OF_THE_FILE = {
    *(None, errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENXIO, errno.ENOMEM),
}
HARMFUL = re.compile(r"\A(?![+-]?[\d.]+(?:[eE][+-]?\d+)?\Z)('*[=+\-@\t\r＝＋－＠])")
HARMLESS = re.compile(r"'+[=+\-@\t\r＝＋－＠]")
writes_what_all_have = True


def leave_writing_to_the_first_host() -> None:
    """From now on `write_whole` writes nothing but this host's own: another one writes the same content."""
    global writes_what_all_have
    writes_what_all_have = False


@contextmanager
def write_whole(path: str | Path, mode: str = "w", own: bool = False) -> Iterator[IO[Any]]:
    """Opens a temporary sibling of `path` for writing and moves it into place when the block ends well.

    Makes the parent folders. Text (`mode="w"`) is UTF-8 with newlines as written; bytes need `mode="wb"`.
    If the block raises, `path` stays as it was and the temporary file is removed. Of several hosts that share a workdir
    the first writes; the others do where it is `own`, which no other one has.
    """
    path = Path(path)
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    if not (own or writes_what_all_have):
        with open(os.devnull, mode, encoding=encoding, newline=newline) as nothing:
            yield nothing
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")  # hosts may share the folder
    try:
        with open(temporary, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # of what is written through an open file the system names none
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_through(file: FileIO, content: bytes) -> None:
    """Writes all of it to an unbuffered file: a disk that is nearly full takes a part. OSError names the file."""
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        error.filename = str(file.name)
        raise


def open_regular(path: str | Path, most_bytes: float = math.inf) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
        OSError: it is none (a pipe would be waited for, and a device never ends), or larger than `most_bytes`.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    status = os.fstat(file.fileno())
    wrong = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    if not wrong and status.st_size > most_bytes:
        wrong = f"{status.st_size / 2**20:,.0f} MiB, where {most_bytes / 2**20:,.0f} are the most"
    if wrong:
        file.close()
        raise OSError(errno.EINVAL, wrong, str(path))
    return file


def of_the_system(error: BaseException) -> bool:
    """Whether not a file is at fault but what it lies on (a full disk, a lost server): it may be read another time.

    FFmpeg's errors are none: it has the system's numbers for what is wrong with a file, too.
    """
    return isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno not in OF_THE_FILE


def load_json(path: Path) -> Any:
    """Content of a JSON file; DataError when it cannot be read."""
    try:
        with open_regular(path, MOST_BYTES) as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as JSON ({reason})") from error


def load_object(path: Path) -> dict[str, Any]:
    """Content of a JSON file of a checkpoint; DataError when it is no object."""
    try:
        content = load_json(path)
    except DataError as error:
        raise DataError(f"{error}; download it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object; download it again.")
    return content


def dump_json(path: Path, content: Any, own: bool = False) -> None:
    """Writes JSON, whole or not at all. Numbers that are not finite, which JSON has no words for, are null.

    own: as of `write_whole`.
    """
    with write_whole(path, own=own) as file:
        json.dump(finite(content), file, indent=1, ensure_ascii=False, allow_nan=False)


def finite(content: Any) -> Any:
    """Content for JSON, with None for numbers that are not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_csv(path: str | Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Writes a table, whole or not at all; see `csv_text`."""
    with write_whole(path) as file:
        file.write(csv_text(header, rows))


def csv_text(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as csv. What a spreadsheet would run and is no number gets a quote before it: "'=1+1".

    See https://owasp.org/www-community/attacks/CSV_Injection; `shown` takes the quote away.
    """
    lines = list[str]()
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")  # so that it quotes both
    writer.writerows([HARMFUL.sub(r"'\1", cell) for cell in row] for row in (header, *rows))
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def shown(cell: str) -> str:
    """A cell of a csv without the quote that keeps a spreadsheet from running it."""
    return cell[1:] if HARMLESS.match(cell) else cell


def printable(name: str | Path) -> str:
    r"""A file's name as text that can be written: bytes that are no UTF-8 become \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def cache_folder() -> Path:
    """Where what outlives a run is kept: $MER_JAX_CACHE, or mer_jax in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MER_JAX_CACHE") or Path(base) / "mer_jax")
