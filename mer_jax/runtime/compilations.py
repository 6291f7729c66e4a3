"""Compiled programs that outlive a process, so that the next start need not compile them again."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from mer_jax.runtime.files import cache_folder, open_regular, write_whole

MOST_BYTES = 2**30  # of all programs; those that were not used for longest go first
LEAST_SECONDS = 0.1  # of compilation, for a program to be kept
DIGEST = 16  # bytes before a program


def keep_compilations() -> None:
    """From now on JAX keeps what it compiles under `cache_folder() / "xla"`, unless the user chose another folder.

    JAX names a program by its operations, its own version, XLA's flags and the devices, of a CPU also the instructions.
    """
    import jax
    from jax._src import compilation_cache  # nothing public gives the cache another store

    if jax.config.jax_compilation_cache_dir is None:
        compilation_cache.get_file_cache = lambda path: (Compilations(Path(path)), path)
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # which XLA writes itself, and may fail at


class Compilations:
    """JAX's `CacheInterface` over a folder, which several processes may use, and which may be full or read-only.

    In place of JAX's own, which loads what a damaged file holds where zstandard (whose frames have no checksum) is
    installed, warns of a cut one at every start and never replaces it, and writes no more once a kill has left a
    program without its time of use.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES):
        self._path, self.most_bytes = folder, most_bytes

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
        with suppress(OSError):
            with write_whole(self._path / key, "wb") as file:
                file.write(digest_of_program(program) + program)
            self._make_room()

    def _make_room(self) -> None:
        files = [(entry.stat(), entry.path) for entry in os.scandir(self._path) if entry.is_file()]
        used = sorted((status.st_mtime, status.st_size, path) for status, path in files)
        excess = sum(size for _, size, _ in used) - self.most_bytes
        for _, size, path in used:
            if excess <= 0:
                break
            os.unlink(path)
            excess -= size


def digest_of_program(program: bytes) -> bytes:
    """What tells a damaged program from a whole one."""
    return hashlib.blake2b(program, digest_size=DIGEST).digest()
