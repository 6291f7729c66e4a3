"""A file that grows part by part, and goes on after the last whole one when its process was killed."""

import errno
import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import write_through
from mer_jax.runtime.kept import Damaged, digest_of, keep, make_again, read_kept


@contextmanager
def growing(path: Path, made_of: str) -> Iterator["Parts"]:
    """Opens a file for further parts. They are listed, with their checksums, in a hidden file beside it.

    What has been cut, or written since the list was, is dropped; from a part on that has changed all is made again.

    Args:
        path: of the file; one process at a time has it open so.
        made_of: names what the parts are made of.

    Raises:
        DataError: the file is there, and was not made of the same.
        UsageError: another process writes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UsageError(f"{path}: another process writes it; wait for that, or choose another file") from error
        yield Parts(file, path, made_of)


class Parts:
    """Those of an open file; `whole` are there."""

    def __init__(self, file: FileIO, path: Path, made_of: str):
        self.file, self.path, self.made_of = file, path, made_of
        self.list = path.with_name(f".{path.name}.parts.json")
        for leftover in path.parent.glob(f".{glob.escape(self.list.name)}.*.tmp"):  # of a killed process
            leftover.unlink()
        self.whole: list[tuple[int, str]] = []  # bytes and checksum of each
        size, end = file.seek(0, os.SEEK_END), 0
        file.seek(0)
        for length, checksum in self._listed() if size else ():
            if digest_of(file.read(length)) != checksum:
                if end + length <= size:
                    make_again(Damaged(f"{path}: from byte {end:,} on not as it was written"))
                break
            self.whole.append((length, checksum))
            end += length
        file.truncate(end)
        self._keep()

    def _listed(self) -> list[tuple[int, str]]:
        try:
            if not self.list.exists():
                raise Damaged("nothing beside it says what it is")
            return read_kept(self.list, self.made_of, parse=lambda saved: [(n, digest) for n, digest in saved["parts"]])
        except Damaged as reason:
            message = f"{self.path}: not written by this command ({reason}); remove it, or choose another file"
            raise DataError(message) from reason

    def _keep(self) -> None:
        keep(self.list, {"parts": self.whole}, self.made_of)

    def append(self, text: str) -> None:
        """Writes the next part, and then lists it."""
        content = text.encode("utf-8", "backslashreplace")
        write_through(self.file, content)
        self.whole.append((len(content), digest_of(content)))
        self._keep()
