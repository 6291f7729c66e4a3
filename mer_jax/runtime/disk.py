"""How much is free on a disk, and sizes as people say them."""

import shutil
from pathlib import Path

from mer_jax.runtime.errors import DataError

SPARE_BYTES = 2**30  # that are left


def free_bytes(folder: Path) -> int:
    """On the disk that the folder is, or would be, on."""
    return shutil.disk_usage(next(path for path in (folder, *folder.resolve().parents) if path.exists())).free


def size_text(size: float) -> str:
    """A size as people say it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def check_room(folder: Path, need: int, what: str) -> None:
    """Raises DataError where a folder's disk has no room for so many bytes. what: they are of."""
    if need and need + SPARE_BYTES > (free := free_bytes(folder)):
        raise DataError(
            f"{folder}: {what} take about {size_text(need)}, and {size_text(free)} are free there: make room, or "
            "choose another folder"
        )
