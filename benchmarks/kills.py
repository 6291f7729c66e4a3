"""Commands that are interrupted at random moments, and started again until they end.

    python -m benchmarks.kills [--interruptions=50] [--seed=0] [--commands=train,extract,tune,sweep,prepare]

Peer: the same command undisturbed. Equal work: the same tiny sample and settings; what both leave must be equal byte by
byte, but for clocks. Killed (SIGKILL), terminated (SIGTERM), Ctrl-C, and files that may not grow beyond a random limit,
as on a full disk. Each has to end in at most one line, and leave no process behind.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks.starting import shards
from benchmarks.timing import show
from mer_jax.runtime.kept import digest_of, digests_in

INTERRUPTIONS = flags.DEFINE_integer("interruptions", 50, "Over all commands.")
SEED = flags.DEFINE_integer("seed", 0, "Of the moments and kinds.")
COMMANDS = flags.DEFINE_list("commands", ["train", "extract", "tune", "sweep", "prepare"], "Those to interrupt.")

CONFIG = [
    "--config=configs/semi.py",
    "--config.data.labelled=30",
    "--config.data.unlabelled=30",
    "--config.data.test=20",
    "--config.tune.epochs=2",
    "--config.fusion.epochs=4",
    "--config.self_training.rounds=3",
    "--config.self_training.k=2",
    "--config.cv.folds=3",
    "--config.extraction.shard_clips=16",
]
VOLATILE = {"timing.json", "inventory.json", "config.json", ".lock", "index.html"}  # clocks, and digests of them
KINDS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "Ctrl-C": signal.SIGINT, "disk full": None}
CODES = {"killed": -9, "terminated": 143, "Ctrl-C": 130, "disk full": 1}
MOST_LINES = {"killed": 0, "terminated": 1, "Ctrl-C": 1, "disk full": 1}


class Ending(NamedTuple):
    """How one start ended."""

    code: int
    errors: list[str]  # lines of standard error from the first that tells of an error
    seconds: float


def arguments(command: str, folder: Path, finished: Path) -> list[str]:
    """The command line that works in a folder. finished: a run that a sweep goes out from."""
    match command:
        case "sweep":
            if not folder.exists():
                shutil.copytree(finished, folder)
            return ["mer_jax.sweep", "--config=configs/table2.py", "--config.seeds=1", f"--workdir={folder}"]
        case "prepare":
            return ["mer_jax.prepare", *CONFIG, f"--output={folder}", "--config.prepare.shard_clips=8"]
    return [f"mer_jax.{command}", *CONFIG, f"--workdir={folder}"]


def start(
    command: Sequence[str], kind: str = "", moment: float = 0.0, most_bytes: int = 0, log: Path | None = None
) -> Ending:
    """One start; `kind` of KINDS after `moment` seconds, or from files of at most `most_bytes`.

    log: where its standard error is written to.
    """

    def limit() -> None:
        if kind == "disk full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells take from what runs in the background

    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=limit,
    )
    number = KINDS.get(kind)
    try:
        _, errors = process.communicate(timeout=moment if number else None)
    except subprocess.TimeoutExpired:
        process.send_signal(number or signal.SIGKILL)
        _, errors = process.communicate()
    if log:
        log.write_text(errors, "utf-8")
    lines = errors.splitlines()
    first = next((i for i, line in enumerate(lines) if "error" in line.lower() or "Traceback" in line), len(lines))
    return Ending(process.returncode, lines[first:], time.perf_counter() - began)


def left_behind() -> int:
    """Processes of ours whose parent is gone."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            count += parent == 1 and b"mer_jax" in (status.parent / "cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            continue
    return count


def results(folder: Path) -> dict[str, str]:
    """What a command left: a digest of each file but clocks and Orbax' own, whose arrays the predictions tell of."""
    paths = [path for path in folder.rglob("*") if path.name not in VOLATILE]
    paths = [path for path in paths if "checkpoints" not in path.parts or path.suffix in (".json", ".safetensors")]
    paths = [path for path in paths if not {"ensemble", "prompts", "tuning"} & {*path.relative_to(folder).parts[:-1]}]
    digests = digests_in(folder, paths)
    for name, content in shards(folder).items():  # keys name times of files that each folder writes anew
        digests[f"features/{name}"] = digest_of(*content)
    if (metrics := folder / "metrics.json").exists():
        content = json.loads(metrics.read_text("utf-8"))
        digests["metrics.json"] = digest_of(
            {k: v for k, v in content.items() if k not in ("timing", "peak_memory_gib")}
        )
    return digests


def interrupt(
    command: str, count: int, scratch: Path, finished: Path, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[str]]:
    """Interrupts a command `count` times in a folder, then lets it end: a row for each, and the files that differ."""
    whole, folder = scratch / command / "whole", scratch / command / "interrupted"
    undisturbed = start(arguments(command, whole, finished))
    assert undisturbed.code == 0, undisturbed.errors
    rows = []
    for _ in range(count):
        kind = str(rng.choice(list(KINDS)))
        moment, most_bytes = float(rng.uniform(0.0, 1.0) * undisturbed.seconds), int(2 ** rng.uniform(8, 19))
        ending = start(arguments(command, folder, finished), kind, moment, most_bytes)
        done = ending.code == 0  # before its moment had come
        good = done or (ending.code == CODES[kind] and len(ending.errors) <= MOST_LINES[kind])
        rows.append(
            {
                "command": command,
                "kind": kind,
                "seconds": round(ending.seconds, 1),
                "code": ending.code,
                "as it should": good and not left_behind(),
                "said": (ending.errors or [""])[-1][:100],
            }
        )
        if done:
            shutil.rmtree(folder)
    last = start(arguments(command, folder, finished))
    assert last.code == 0, last.errors
    expected, actual = results(whole), results(folder)
    return rows, sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))


def main(_: list[str]) -> None:
    """The benchmark."""
    rng = np.random.default_rng(SEED.value)
    rows, differing = [], {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ.setdefault("MER_JAX_CACHE", str(scratch / "cache"))
        finished = scratch / "finished"
        assert start(arguments("train", finished, finished)).code == 0
        shares = Counter(COMMANDS.value[i % len(COMMANDS.value)] for i in range(INTERRUPTIONS.value))
        for command, count in shares.items():
            own_rows, differing[command] = interrupt(command, count, scratch, finished, rng)
            rows += own_rows
    show(rows, interruptions=len(rows), as_they_should=sum(row["as it should"] for row in rows), differing=differing)


if __name__ == "__main__":
    app.run(main)
