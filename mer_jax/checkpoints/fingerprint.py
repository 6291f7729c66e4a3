"""Names the content of a checkpoint folder."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt"}


def fingerprint(folder: Path) -> str:
    """Digest of every json and model file in a folder, names and content."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    with ThreadPoolExecutor() as readers:  # hashing leaves Python's lock, so that shards are read side by side
        contents = list(readers.map(lambda path: _content(path, path.stat().st_size, path.stat().st_mtime_ns), paths))
    named = [f"{path.name}|{content}" for path, content in zip(paths, contents, strict=True)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:32]


@cache
def _content(path: Path, size: int, changed: int) -> str:
    """Digest of a file, read again in this process only if its size or time of change is another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
