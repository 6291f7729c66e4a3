"""Compiled programs that outlive a process, so that the next start need not compile them again."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mer_jax.runtime.files import cache_folder, open_regular

MOST_BYTES = 2**30  # of all programs, when a process starts; those that were not used for longest go first
DIGEST = 16  # bytes before a program


def keep_compilations() -> None:
    """From now on JAX keeps what it compiles under `cache_folder() / "xla"`, unless the user chose another folder.

    JAX names a program by its operations, its own version, XLA's flags and the devices, of a CPU also the instructions.
    """
    import jax
    from jax._src import compilation_cache  # nothing public gives the cache another store

    config: Any = jax.config
    store: Any = compilation_cache
    if config.jax_compilation_cache_dir is None:
        store.get_file_cache = lambda path: (Compilations(Path(path)), path)
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # small ones are many
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # which XLA writes itself, and may fail at


class Compilations:
    """JAX's `CacheInterface` over a folder, which several processes may use, and which may be full or read-only.

    In place of JAX's own, which loads what a damaged file holds where zstandard (whose frames have no checksum) is
    installed, warns of a cut one at every start and never replaces it, and writes no more once a kill has left a
    program without its time of use.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES):
        self._path = folder
        with suppress(OSError):
            make_room(folder, most_bytes)

    def get(self, key: str) -> bytes | None:
        """A program as it was put; None where there is none, or no whole one."""
        path = self._path / key
        try:
            with open_regular(path) as file:
                digest, program = file.read(DIGEST), file.read()
        except OSError:
            return None
        whole = digest == digest_of_program(program)
        with suppress(OSError):
            os.utime(path) if whole else path.unlink()
        return program if whole else None

    def put(self, key: str, program: bytes) -> None:
        """Keeps a program, if that is possible."""
        temporary = self._path / f"{key[:100]}.{os.urandom(4).hex()}.tmp"
        with suppress(OSError):
            self._path.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(digest_of_program(program) + program)  # not synced: what a power cut takes is noticed
            temporary.replace(self._path / key)
            return
        with suppress(OSError):
            temporary.unlink()


def make_room(folder: Path, most_bytes: int) -> None:
    """Removes the files that were not used for longest until those left have no more bytes."""
    files = [(entry.stat(), entry.path) for entry in os.scandir(folder) if entry.is_file()]
    excess = sum(status.st_size for status, _ in files) - most_bytes
    for status, path in sorted(files, key=lambda file: file[0].st_mtime):
        if excess <= 0:
            break
        os.unlink(path)
        excess -= status.st_size


def digest_of_program(program: bytes) -> bytes:
    """What tells a damaged program from a whole one."""
    return hashlib.blake2b(program, digest_size=DIGEST).digest()
