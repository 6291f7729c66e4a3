"""The memory of a process, and of this one while something runs (Linux)."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np


def free_programs() -> None:
    """Frees compiled programs long before they fill the 65,530 pieces of memory that Linux lets a process map.

    A network's takes hundreds; the process that finds none left crashes. For processes that compile one after another.
    """
    maps = Path("/proc/self/maps")  # a line for each piece
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


def status(pid: int | str = "self") -> dict[str, float]:
    """Sizes of a process in MiB: VmRSS, and its parts RssAnon and RssFile. Nothing of one that has just ended."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


def resident() -> float:
    """MiB of this process and those that it has started."""
    children = [pid for task in os.listdir("/proc/self/task") for pid in children_of(task)]
    return sum(status(pid).get("VmRSS", 0.0) for pid in ("self", *children))


def children_of(task: str) -> list[str]:
    """Processes that a thread of this one has started."""
    try:
        with open(f"/proc/self/task/{task}/children") as file:
            return file.read().split()
    except OSError:
        return []


class Memory:
    """Samples in MiB: the process's own memory, pages of files that it maps, and what live JAX arrays hold."""

    def __enter__(self) -> "Memory":
        self.samples: list[tuple[float, float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            sizes = status()
            arrays = sum(array.nbytes for array in jax.live_arrays()) / 2**20
            self.samples.append((sizes["RssAnon"], sizes["RssFile"], arrays))
            if self._done.wait(0.02):
                return

    @property
    def resident(self) -> np.ndarray:
        """The sum of its own and files' pages, [samples] MiB."""
        return np.array(self.samples)[:, :2].sum(1)

    @property
    def files(self) -> np.ndarray:
        """Pages of mapped files, [samples] MiB."""
        return np.array(self.samples)[:, 1]

    @property
    def arrays(self) -> np.ndarray:
        """Bytes of live JAX arrays, [samples] MiB."""
        return np.array(self.samples)[:, 2]


def halves(resident: Sequence[float] | np.ndarray) -> dict[str, int]:
    """The peak of memory samples in MiB, in either half of them."""
    middle = len(resident) // 2
    return {
        "peak MiB, first half": round(max(resident[: middle + 1])),
        "peak MiB, second half": round(max(resident[middle:])),
    }
