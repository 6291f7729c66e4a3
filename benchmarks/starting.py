"""Starts of our commands as processes of their own, which may be killed at any moment."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from benchmarks.memory import halves, status

POLL = 0.2  # s between two looks at a process


def start(command: Sequence[str], log: Path, kill_after: float = np.inf) -> dict[str, float]:
    """One start of `python -m *command`.

    Args:
        command: a module and its flags.
        log: what it prints is added to this file.
        kill_after: seconds until SIGKILL.

    Returns:
        Its seconds and, in MiB, its peak resident memory in either half of that time.

    Raises:
        RuntimeError: it ended in an error of its own.
    """
    began, resident, killed = time.perf_counter(), [], False
    with open(log, "ab") as file:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=file, stderr=file)
        while process.poll() is None:
            if time.perf_counter() - began > kill_after:
                process.kill()
                killed = True
            resident.append(status(process.pid).get("VmRSS", 0.0))
            time.sleep(POLL)
    if process.returncode and not killed:
        raise RuntimeError(log.read_text("utf-8", "replace")[-2000:])
    return {"seconds": round(time.perf_counter() - began, 1), **halves(resident)}


def shards(workdir: Path) -> dict[str, tuple[bytes, list[str | None]]]:
    """Of every shard its embeddings and why rows have none; keys name times of files that each workdir writes anew."""
    contents = {}
    for path in (workdir / "features").rglob("*.safetensors"):
        with safe_open(path, "np") as shard:
            reasons = [reason for _, reason in json.loads(shard.metadata()["shard"])["rows"]]
            contents[f"{path.parent.name}/{path.name}"] = (shard.get_tensor("embeddings").tobytes(), reasons)
    return contents
