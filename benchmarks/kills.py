"""Commands that are interrupted at random moments, and started again until they end.

    python -m benchmarks.kills [--interruptions=50] [--seed=0] [--commands=train,extract,tune,sweep,prepare,...]

Peer: the same command undisturbed. Equal work: the same tiny sample and settings; what both leave must be equal byte by
byte, but for clocks. Killed (SIGKILL), terminated and Ctrl-C (SIGTERM and SIGINT, to all processes of the command),
a full disk (a small tmpfs, where one may be mounted), and files that may not grow beyond a random limit. Each has to
end in at most one line, and leave no process behind; in the end nothing half-written is there, nothing in the folder of
temporary files, and no finished shard, clip's faces or round has been made twice. `beam` needs Apache Beam.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks.starting import shards
from benchmarks.timing import show
from mer_jax.runtime.kept import digest_of, digests_in

ALL = ["train", "extract", "tune", "sweep", "prepare", "beam", "annotate", "transcribe", "predict"]
INTERRUPTIONS = flags.DEFINE_integer("interruptions", 50, "Over all commands.")
SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn: moments and kinds, or files, ways and places.")
COMMANDS = flags.DEFINE_list("commands", ALL, "Those to interrupt.")

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
# Clocks, and digests of them.
VOLATILE = {"timing.json", "device_busy.json", "inventory.json", "fusion.json", "config.json", ".lock", "index.html"}
KINDS = {
    "killed": signal.SIGKILL,
    "terminated": signal.SIGTERM,
    "Ctrl-C": signal.SIGINT,
    "disk full": None,
    "file limit": None,
}
CODES = {"killed": -9, "terminated": 143, "Ctrl-C": 130, "disk full": 1, "file limit": 1}
HALF_WRITTEN = re.compile(r"\..+\.tmp|.*orbax-checkpoint-tmp.*|incomplete\..*|\.parts|\.sample.*")
FINISHED = ("features/**/*.safetensors", "faces/**/*.npy", "**/round-*.json", "**/*.array_record*")
DISK = 2**30  # bytes of the tmpfs


class Ending(NamedTuple):
    """How one start ended."""

    code: int
    errors: list[str]  # lines of standard error from the first that tells of an error
    seconds: float


class Place(NamedTuple):
    """Where a command works, and what it works with."""

    folder: Path
    finished: Path  # a run that a sweep goes out from, and that predicts
    server: str  # address of a chat server
    ear: str  # and of one that transcribes


def arguments(command: str, place: Place) -> list[str]:
    """The command line that works in a folder."""
    folder, finished, server, ear = place
    match command:
        case "sweep":
            if not folder.exists():
                shutil.copytree(finished, folder)
            return ["mer_jax.sweep", "--config=configs/table2.py", "--config.seeds=1", f"--workdir={folder}"]
        case "prepare" | "beam":
            flags = ["--beam=DirectRunner"] if command == "beam" else []
            return ["mer_jax.prepare", *CONFIG, f"--output={folder}", "--config.prepare.shard_clips=8", *flags]
        case "annotate":
            ranking = ["--config.ranking.annotator=openai", f"--config.ranking.openai.base_url={server}"]
            ranking += [f"--config.ranking.cache={folder}/answers", "--config.ranking.openai.concurrency=4"]
            return ["mer_jax.annotate", *CONFIG, *ranking, f"--workdir={folder}"]
        case "transcribe":
            flags = ["--config.transcripts.transcriber=openai", f"--config.transcripts.openai.base_url={ear}"]
            flags += [f"--config.transcripts.cache={folder}/answers", "--config.transcripts.openai.concurrency=4"]
            return ["mer_jax.transcribe", *CONFIG, *flags, f"--workdir={folder}"]
        case "predict":
            media = min(finished.parent.glob("cache/**/video*"))
            return ["mer_jax.predict", f"--workdir={finished}", f"--input={media}", f"--output={folder}/lines.jsonl"]
    return [f"mer_jax.{command}", *CONFIG, f"--workdir={folder}"]


# Not `preexec_fn`, for which a process that uses JAX would fork. Shells take SIGINT from what runs in the background.
LAUNCHER = """
import os, resource, signal, sys
if most_bytes := int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
"""


def start(
    command: Sequence[str], kind: str = "", moment: float = 0.0, most_bytes: int = 0, log: Path | None = None
) -> Ending:
    """One start; `kind` of KINDS after `moment` seconds, or from files of at most `most_bytes`.

    log: where its standard error is written to.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(most_bytes if kind == "file limit" else 0), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    number = KINDS.get(kind)
    try:
        _, errors = process.communicate(timeout=moment if number else None)
    except subprocess.TimeoutExpired:
        if number == signal.SIGKILL:
            process.kill()  # its workers have to notice
        else:
            os.killpg(process.pid, number or signal.SIGKILL)
        _, errors = process.communicate()
    if log:
        log.write_text(errors, "utf-8")
    lines = errors.splitlines()
    first = next((i for i, line in enumerate(lines) if "error" in line.lower() or "Traceback" in line), len(lines))
    return Ending(process.returncode, lines[first:], time.perf_counter() - began)


def left_behind() -> list[str]:
    """Command lines of processes of ours whose parent is gone."""
    commands = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            line = (status.parent / "cmdline").read_bytes()
            # A session of its own is not another user's of the same machine.
            if parent == 1 and b"mer_jax" in line and str(Path.cwd()) == os.readlink(status.parent / "cwd"):
                commands.append(line.decode(errors="replace"))
    return commands


def results(folder: Path) -> dict[str, str]:
    """What a command left: a digest of each file but clocks and Orbax' own, whose arrays the predictions tell of."""
    paths = [path for path in folder.rglob("*") if path.name not in VOLATILE]
    paths = [path for path in paths if "checkpoints" not in path.parts or path.suffix in (".json", ".safetensors")]
    paths = [path for path in paths if not path.name.endswith(".files.json")]  # digests of Orbax' own
    apart = {"ensemble", "prompts", "tuning", "answers"}  # answers come in any order
    paths = [path for path in paths if not apart & {*path.relative_to(folder).parts[:-1]}]
    digests = digests_in(folder, paths)
    for name, content in shards(folder).items():  # keys name times of files that each folder writes anew
        digests[f"features/{name}"] = digest_of(*content)
    if (metrics := folder / "metrics.json").exists():
        content = json.loads(metrics.read_text("utf-8"))
        digests["metrics.json"] = digest_of(
            {k: v for k, v in content.items() if k not in ("timing", "device_busy", "peak_memory_gib", "run")}
        )
    return digests


def times(folder: Path) -> set[int]:
    """When each of the files that are finished once they are there was written."""
    paths = (path for pattern in FINISHED for path in folder.glob(pattern))
    return {path.stat().st_mtime_ns for path in paths if not HALF_WRITTEN.fullmatch(path.name)}


def litter(*folders: Path) -> list[str]:
    """What is half-written in folders."""
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if HALF_WRITTEN.fullmatch(path.name))


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a tmpfs; gives whether it could be."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "mer_jax", str(folder)]
    mounted = shutil.which("mount") is not None and not subprocess.run(command, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, room: int) -> Iterator[None]:
    """Leaves `room` bytes on a disk."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(disk).free - room))
    try:
        yield
    finally:
        ballast.unlink()


def interrupt(
    command: str, kinds: Sequence[str], places: tuple[Place, Place], rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[str]]:
    """Interrupts a command, once in each way, then lets it end: a row for each, and what is wrong in the end.

    places: where it runs undisturbed, and where it is interrupted: on a disk of its own for the kind "disk full".
    """
    temporary = Path(tempfile.gettempdir())
    undisturbed = start(arguments(command, places[0]))
    assert undisturbed.code == 0, undisturbed.errors
    rows, folder = [], places[1].folder
    folder.parent.mkdir(exist_ok=True)
    written = set[int]()
    for kind in kinds:
        moment, room = float(rng.uniform(0.0, 1.0) * undisturbed.seconds), int(2 ** rng.uniform(8, 21))
        line, before = arguments(command, places[1]), {*temporary.iterdir()}
        if kind == "disk full":
            with filled(folder.parent, room):
                ending = start(line)
        else:
            ending = start(line, kind, moment, room >> 2)
        done = ending.code == 0  # before its moment had come
        good = done or (ending.code == CODES[kind] and len(ending.errors) == (kind != "killed"))
        time.sleep(1.0)  # for workers to notice
        good &= not left_behind() and (kind == "killed" or before >= {*temporary.iterdir()})
        row = {"command": command, "kind": kind, "seconds": round(ending.seconds, 1), "code": ending.code}
        rows.append(row | {"as it should": good, "said": " / ".join(ending.errors)[-300:]})
        written |= times(folder)
        if done:
            shutil.rmtree(folder)
            written.clear()
    last = start(arguments(command, places[1]))
    assert last.code == 0, last.errors
    expected, actual = results(places[0].folder), results(folder)
    wrong = [f"differs: {name}" for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)]
    if again := len(written - times(folder)):
        wrong.append(f"{again} finished files made again")
    wrong += [f"left: {name}" for name in litter(folder, temporary.parent / "cache")]
    return rows, wrong + [f"left: {path}" for path in temporary.iterdir()]


def main(_: list[str]) -> None:
    """The benchmark."""
    from tests.text.chat_server import ChatServer
    from tests.text.speech_server import SpeechServer

    rng = np.random.default_rng(SEED.value)
    rows: list[dict[str, Any]] = []
    wrong: dict[str, list[str]] = {}
    servers = ChatServer(latency=0.2), SpeechServer(latency=0.2)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [server.url for server in servers]
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk") as mounted:
        scratch = Path(name)
        (scratch / "temporary").mkdir()
        os.environ |= {"MER_JAX_CACHE": str(scratch / "cache"), "TMPDIR": str(scratch / "temporary")}
        os.environ["OPENAI_API_KEY"] = "none"
        tempfile.tempdir = os.environ["TMPDIR"]
        finished = scratch / "finished"
        if {"sweep", "predict"} & {*COMMANDS.value}:
            first = start(arguments("train", Place(finished, finished, *urls)))
            assert first.code == 0, first.errors
        kinds = [kind for kind in KINDS if mounted or kind != "disk full"]
        shares = Counter(COMMANDS.value[i % len(COMMANDS.value)] for i in range(INTERRUPTIONS.value))
        for turn, (command, count) in enumerate(shares.items()):
            places = [Place(scratch / where / command, finished, *urls) for where in ("whole", "disk")]
            own_kinds = [kinds[(turn + i) % len(kinds)] for i in range(count)]
            own_rows, wrong[command] = interrupt(command, own_kinds, (places[0], places[1]), rng)
            rows += own_rows
            print(command, wrong[command], *own_rows, sep="\n  ", file=sys.stderr, flush=True)
    good = sum(row["as it should"] for row in rows)
    show(rows, interruptions=len(rows), as_they_should=good, wrong_in_the_end=wrong)


if __name__ == "__main__":
    app.run(main)
