"""Several hosts of which one is killed in each stage: the others stop, and a start on any number of hosts goes on.

    python -m benchmarks.lost_hosts [--cases=train:faces,train:fusion,sweep,...] [--scratch=DIR]

Peer: the same command undisturbed, on two hosts. Equal work: the same tiny sample and settings. Hosts are processes of
this machine, of two simulated devices each. Of two, the first and the second are killed (SIGKILL) in turn; the other
has to end by itself, with one line and exit code 6. Then the command is started on one, two or three hosts. What is
left is compared number by number: another number of hosts puts other clips into one batch.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.kills import Place, arguments, results
from benchmarks.timing import show
from mer_jax.features.store import FeatureStore
from mer_jax.runtime.errors import LostHost

MARKS = {  # what the first host's standard error, or the workdir, has when a stage of `train` has begun
    "data": "] data",
    "faces": "] faces",
    "ranking": "] ranking",
    "speech": "] speech",
    "image": "] image",
    "text": "] text",
    "video": "] video",
    "prompts": "EmoVCLIP prompts on",
    "fusion": "] fusion",
    "round": "self_training/round-01.json",
    "report": "] report",
}
ALL = [*(f"train:{stage}" for stage in MARKS), "extract", "tune", "sweep", "prepare"]
CASES = flags.DEFINE_list("cases", ALL, "What to kill a host of: a stage of train, or another command half-way.")
SCRATCH = flags.DEFINE_string("scratch", None, "Folder to work in; by default a temporary one.")
MOST = 60  # seconds in which the others have to stop
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def begin(line: list[str], hosts: int, logs: Path) -> list[subprocess.Popen]:
    """A command's processes, whose standard errors are written to `logs`0, ..."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = ["--distributed", f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--hosts={hosts}"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    processes = []
    for host in range(hosts):
        with open(f"{logs}{host}", "w") as log:
            command = [sys.executable, "-u", "-m", *line, *[*cluster, f"--host={host}"] * (hosts > 1)]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
            processes.append(process)
    return processes


def to_the_end(line: list[str], hosts: int, logs: Path) -> float:
    """Seconds that a command takes, which has to succeed."""
    began = time.perf_counter()
    codes = [process.wait() for process in begin(line, hosts, logs)]
    assert codes == [0] * hosts, (codes, Path(f"{logs}0").read_text()[-500:])
    return time.perf_counter() - began


def kill(line: list[str], victim: int, due: Callable[[], bool], logs: Path) -> dict[str, Any]:
    """Kills one of two hosts once that is due; how the other one ends."""
    processes = begin(line, 2, logs)
    while not due() and processes[victim].poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)  # into the stage
    alive = processes[victim].poll() is None
    processes[victim].kill()
    killed = time.perf_counter()
    try:
        code: int | str = processes[1 - victim].wait(2 * MOST)
    except subprocess.TimeoutExpired:
        processes[1 - victim].kill()
        code = "none"
    said = [each for each in Path(f"{logs}{1 - victim}").read_text().splitlines() if each.startswith("error")]
    seconds = time.perf_counter() - killed
    good = alive and code == LostHost.exit_code and seconds < MOST and len(said) == 1
    return {"victim": victim, "code": code, "seconds": round(seconds), "as it should": good, "said": " / ".join(said)}


def differences(expected: Path, actual: Path) -> dict[str, float]:
    """The largest difference of features, and of the numbers in each other file that differs; infinite for others."""
    largest: dict[str, float] = {}
    for store in sorted(expected.glob("features/*")):
        ours, theirs = FeatureStore(store), FeatureStore(actual / store.relative_to(expected))
        keys = sorted(ours.where)
        same = {*theirs.where} == {*keys}
        pair = [np.asarray(each.features(keys).embeddings) for each in (ours, theirs)] if keys and same else [0, np.inf]
        largest["features"] = max(largest.get("features", 0.0), float(np.abs(pair[0] - pair[1]).max()))
    digests = [results(folder) for folder in (expected, actual)]
    for name in sorted(digests[0].keys() | digests[1].keys()):
        if digests[0].get(name) != digests[1].get(name) and not name.startswith("features/"):
            largest[name] = of_numbers(expected / name, actual / name)
    return largest


def of_numbers(*files: Path) -> float:
    """The largest difference of the numbers in two texts."""
    if not all(file.suffix in (".csv", ".json") and file.exists() for file in files):
        return np.inf
    texts = [file.read_text("utf-8") for file in files]
    if files[0].name == "metrics.json":
        texts = [json.dumps(json.loads(text)["cv"]) for text in texts]
    numbers = [NUMBER.findall(text) for text in texts]
    same = len(numbers[0]) == len(numbers[1])
    return max((abs(float(a) - float(b)) for a, b in zip(*numbers, strict=True)), default=0.0) if same else np.inf


def main(_: list[str]) -> None:
    """The benchmark."""
    scratch = Path(SCRATCH.value or tempfile.mkdtemp())
    os.environ["MER_JAX_CACHE"] = str(scratch / "cache")
    whole, rows, durations = scratch / "whole", [], dict[str, float]()
    for number, case in enumerate(CASES.value or []):
        command, _colon, stage = case.partition(":")
        place, logs = Place(whole / command, whole / "train", "", ""), scratch / f"{case}.log"
        for needed in ("train", command):  # sweeps go out from a finished run
            if needed not in durations and (needed == command or command == "sweep"):
                own = Place(whole / needed, whole / "train", "", "")
                durations[needed] = to_the_end(arguments(needed, own), 2, scratch / f"{needed}.log")
        folder = scratch / f"killed-{case}"
        shutil.rmtree(folder, ignore_errors=True)
        line, began = arguments(command, place._replace(folder=folder)), time.perf_counter()

        def due() -> bool:
            mark = MARKS.get(stage)  # noqa: B023
            if not mark:
                return time.perf_counter() - began > durations[command] / 2  # noqa: B023
            return (folder / mark).exists() or mark in Path(f"{logs}0").read_text()  # noqa: B023

        row = {"case": case, **kill(line, 1 - number % 2, due, logs)}
        again = (2, 1, 3)[number % 3]
        to_the_end(line, again, scratch / f"{case}.again")
        largest = differences(whole / command, folder)
        rows.append(row | {"again on": again, "differs by": max(largest.values(), default=0.0)})
        print(rows[-1], largest, file=sys.stderr, flush=True)
        shutil.rmtree(folder)
    good = sum(row["as it should"] for row in rows)
    show(rows, cases=len(rows), as_they_should=good)


if __name__ == "__main__":
    app.run(main)
