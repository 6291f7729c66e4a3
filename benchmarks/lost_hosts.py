"""Several hosts of which one is killed in each stage: the others stop, and a start on any number of hosts goes on.

    python -m benchmarks.lost_hosts [--jobs=train,sweep,...] [--hosts=2,3] [--until=speech] [--ends=1,2,3]
        [--scratch=DIR]

Peer: the same command undisturbed, on two hosts. Equal work: the same tiny sample and settings. Hosts are processes of
this machine, of two simulated devices each. A workdir is begun by several hosts, one of which is killed (SIGKILL) in
the first stage; then goes on with as many or others, one of which is killed in the second, and so on. Each time all
others have to end by themselves within a minute, with one line and exit code 6. A last start on one, two or three hosts
has to end well, and what is left is compared number by number: other hosts put other clips into one batch.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.kills import Place, arguments, results
from benchmarks.timing import show
from mer_jax.features.store import FeatureStore
from mer_jax.runtime.errors import LostHost

STAGES = {  # what the first host has said once a stage has begun
    "train": {
        **{stage: rf"\] {stage}" for stage in ("data", "faces", "ranking", "speech", "image", "text", "video")},
        "prompts": r"EmoVCLIP prompts on",
        "fusion": r"\] fusion",
        "self-training": r" [1-9]/\d+ \[[^]]*round",
        "report": r"\] report",
    },
    "extract": {"image": r"\] image"},
    "tune": {"prompts": r"EmoVCLIP prompts on"},
    "sweep": {"fusion": r"round/s"},
    "prepare": {"clips": r"prepared:"},
}
JOBS = flags.DEFINE_list("jobs", [*STAGES], "Commands to kill hosts of.")
HOSTS = flags.DEFINE_list("hosts", ["2", "3"], "How many start, in turn, of which one is killed.")
UNTIL = flags.DEFINE_string("until", "report", "The last stage of train in which one is killed.")
ENDS = flags.DEFINE_list("ends", ["1", "2", "3"], "Hosts that end a command, each in a workdir of its own.")
SCRATCH = flags.DEFINE_string("scratch", None, "Folder to work in; by default a temporary one.")
MOST = 60  # seconds in which the others have to stop
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def begin(line: list[str], hosts: int, logs: Path) -> list[subprocess.Popen]:
    """A command's processes, whose standard errors are written to `logs`/0, ..."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = ["--distributed", f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--hosts={hosts}"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    logs.mkdir(parents=True, exist_ok=True)
    processes = []
    for host in range(hosts):
        command = [sys.executable, "-m", *line, *[*cluster, f"--host={host}"] * (hosts > 1)]
        with open(logs / str(host), "w") as log:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        processes.append(process)
    return processes


def to_the_end(line: list[str], hosts: int, logs: Path) -> None:
    """Runs a command, which has to succeed."""
    codes = [process.wait() for process in begin(line, hosts, logs)]
    assert codes == [0] * hosts, (codes, (logs / "0").read_text()[-500:])


def kill(line: list[str], hosts: int, victim: int, mark: str, logs: Path) -> dict[str, Any]:
    """Kills one of the hosts once the first has said `mark`; how the others end."""
    processes = begin(line, hosts, logs)
    while not re.search(mark, (logs / "0").read_text()) and processes[victim].poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)  # into the stage
    alive = processes[victim].poll() is None
    processes[victim].kill()
    killed = time.perf_counter()
    others = [host for host in range(len(processes)) if host != victim]
    codes: list[int | str] = []
    for host in others:
        try:
            codes.append(processes[host].wait(max(1.0, 2 * MOST - (time.perf_counter() - killed))))
        except subprocess.TimeoutExpired:
            processes[host].kill()
            codes.append("none")
    seconds = time.perf_counter() - killed
    said = [re.findall(r"^(?:error|Traceback|E\d{4} ).*", (logs / str(host)).read_text(), re.M) for host in others]
    good = alive and {*codes} == {LostHost.exit_code} and seconds < MOST and all(len(lines) == 1 for lines in said)
    row = {"hosts": hosts, "killed": victim, "codes": codes, "seconds": round(seconds), "as it should": good}
    return row | {"said": " / ".join(" + ".join(lines) for lines in said)}


def interrupted(command: str, end: int, place: Place, logs: Path) -> Iterator[dict[str, Any]]:
    """Kills one host in each stage, which is a row, then lets `end` hosts go on."""
    line = arguments(command, place)
    for number, (stage, mark) in enumerate(STAGES[command].items()):
        hosts = int(HOSTS.value[number % len(HOSTS.value)])
        victim = (number + end) % hosts
        yield {"command": command, "stage": stage, **kill(line, hosts, victim, mark, logs / stage)}
        if stage == UNTIL.value:
            break
    to_the_end(line, end, logs / "end")


def differences(expected: Path, actual: Path) -> dict[str, float]:
    """The largest difference of features, and of the numbers in each other file that differs; infinite for others."""
    largest: dict[str, float] = {}
    for folder in sorted(expected.glob("features/*")):
        if not (theirs := [*actual.glob(f"features/{folder.name}/*")]):
            continue  # of prompts that differ in a bit, which names their features: probabilities tell
        # In the order of the rows: keys may name times of files that each folder writes anew.
        stores = FeatureStore(folder), FeatureStore(theirs[0].parent)
        rows = [np.array(sorted(np.asarray(store.features([*store.where]).embeddings).tolist())) for store in stores]
        same = rows[0].shape == rows[1].shape
        largest[folder.name] = float(np.abs(rows[0] - rows[1]).max(initial=0.0)) if same else np.inf
    digests = [results(folder) for folder in (expected, actual)]
    for name in sorted(digests[0].keys() | digests[1].keys()):
        told = name.startswith("features/") or name.endswith(".safetensors")  # of which features and probabilities tell
        if digests[0].get(name) != digests[1].get(name) and not told:
            largest[name] = of_numbers(expected / name, actual / name)
    return largest


def of_numbers(*files: Path) -> float:
    """The largest difference of the numbers in two texts; of metrics, in the cross-validated scores."""
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
    finished, rows = scratch / "undisturbed" / "train", []
    for command in dict.fromkeys(["train"] * ("sweep" in JOBS.value) + JOBS.value):  # sweeps begin at a run
        place = Place(scratch / "undisturbed" / command, finished, "", "")
        if not place.folder.exists():
            to_the_end(arguments(command, place), 2, scratch / "logs" / command)
        for end in map(int, ENDS.value if command in JOBS.value else ()):
            folder = scratch / f"{command}-{end}"
            shutil.rmtree(folder, ignore_errors=True)
            for row in interrupted(command, end, place._replace(folder=folder), scratch / "logs" / folder.name):
                rows.append(row | {"then on": end})
                print(rows[-1], file=sys.stderr, flush=True)
            left = differences(place.folder, folder)
            rows[-1]["differs by"] = max(left.values(), default=0.0)
            print(f"{command}, ended on {end}: {left}", file=sys.stderr, flush=True)
    show(rows, kills=len(rows), as_they_should=sum(row["as it should"] for row in rows))


if __name__ == "__main__":
    app.run(main)
