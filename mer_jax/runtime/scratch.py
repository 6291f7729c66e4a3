"""Folders for the time of a block, and what killed processes have left of such."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import getuid
from pathlib import Path

LOCK = ".lock"  # in the folder, held by the process that fills it
YOUNG = 60.0  # seconds that a folder is given to be locked


@contextmanager
def scratch_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, removed when the block ends; those of this prefix that killed processes have left go first.

    parent: by default where the system has temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_abandoned(prefix, parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with open(folder / LOCK, "w") as lock:
            with suppress(OSError):  # a file system without locks: nobody else removes it, then
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(prefix: str, parent: Path) -> None:
    """Removes the user's own folders of this prefix but those that a running process is at."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # BlockingIOError: it is locked; FileNotFoundError: it is gone
            status, lock = folder.lstat(), folder / LOCK
            if status.st_uid != getuid() or (time.time() - status.st_mtime < YOUNG and not lock.exists()):
                continue
            if lock.exists():
                with open(lock, "r+") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
