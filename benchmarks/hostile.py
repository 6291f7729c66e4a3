"""Hostile files, tables, media and servers, one process each: one line, bounded memory, nothing outside, no connection.

    python -m benchmarks.hostile [--only=media,array] [--seconds=300]

No peer. Checkpoints, tables, media, face images, arrays, prepared data sets, server's answers and workdirs that are
absurd, endless, or would run code, read other files or fetch addresses. Right is: the command says what is expected of
it (with the file's name, where there is one), ends in one line or goes on without the clip, prints nothing that steers
a terminal and no traceback, holds less than 4 GiB in any process, writes nothing outside of its workdir, cache and
temporary folder, leaves nothing in the last, connects to nobody (strace tells, where it is there) and starts no program
but Python.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.hostile_checkpoints import CHECKPOINTS
from benchmarks.hostile_inputs import ARRAYS, PREPARED, TABLES, Input, Place, config, data_set
from benchmarks.hostile_media import CROPS, MEDIA
from benchmarks.hostile_servers import ADDRESSES, EARS, KEY, SERVERS, WORKDIRS
from benchmarks.kills import CONFIG
from benchmarks.timing import show
from mer_jax.runtime.kept import digests_in
from mer_jax.runtime.terminal import STEERING
from tests.data.media_files import numbered_frames, tone, write_video

ONLY = flags.DEFINE_list("only", [], "Kinds of inputs; all by default.")
SECONDS = flags.DEFINE_float("seconds", 300.0, "That a command may take.")

INPUTS = [*CHECKPOINTS, *TABLES, *MEDIA, *CROPS, *ARRAYS, *PREPARED, *SERVERS, *EARS, *ADDRESSES, *WORKDIRS]
MOST_GIB = 4.0
PYTHON = re.compile(
    r"/python[\d.]*$|/(git|uname|ldconfig(\.real)?|fc-list|gcc|sh)$"
)  # what Python's own modules start, too
SYSTEM_CALLS = re.compile(r'(?:connect\(.*sin6?_port=htons\((\d+)\)|execve\("([^"]+)".*= 0$)')
ROOT = Path(__file__).parents[1]


def run(arguments: list[str], place: Place, log: Path) -> tuple[dict[str, Any], str]:
    """Starts a command in a place of its own: how it ended, and all that it printed."""
    home, temporary = place.folder / "home", place.folder / "temporary"
    for folder in (home, temporary):
        folder.mkdir()
    calls = place.folder / "calls"
    tracer = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,execve", "-o", str(calls)]
    command = [*(tracer if shutil.which("strace") else ()), sys.executable, "-m", f"mer_jax.{arguments[0]}"]
    if not any(argument.startswith("--workdir") for argument in arguments) and arguments[0] != "prepare":
        arguments = [*arguments, f"--workdir={place.folder / 'workdir'}"]
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "MER_JAX_CACHE": str(place.folder / "cache")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "OPENAI_API_KEY": KEY,
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": str(place.folder / "cache"),
    }
    began = time.perf_counter()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=place.folder,
            env=os.environ | environment,
            start_new_session=True,
        )
        timer = time.monotonic() + SECONDS.value
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0] and time.monotonic() < timer:
            time.sleep(0.02)
        late = not ended[0]
        if late:
            os.killpg(process.pid, signal.SIGKILL)
            ended = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    text = log.read_text("utf-8", "surrogateescape")
    seen = calls.read_text("utf-8", "replace").splitlines() if calls.exists() else []
    matches = [match for line in seen if (match := SYSTEM_CALLS.search(line))]
    strangers = [match[1] for match in matches if match[1] and int(match[1]) not in place.ports]
    programs = {match[2] for match in matches if match[2] and not PYTHON.search(match[2])}
    left = [path.name for path in temporary.iterdir()]
    return {
        "code": "late" if late else process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_gib": round(ended[2].ru_maxrss / 2**20, 2),
        "connections": len(strangers),
        "programs": sorted(programs),
        "left": left,
    }, text


def start(command: str, *arguments: str) -> None:
    """Starts a command that is to end well."""
    call = [sys.executable, "-m", f"mer_jax.{command}", *arguments]
    subprocess.run(call, check=True, cwd=ROOT, capture_output=True)


def wrong(each: Input, row: dict[str, Any], text: str, outside: list[str]) -> str:
    """What is not right; empty if all is."""
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    reasons = {
        "traceback": "Traceback" in text,
        "late": row["code"] == "late",
        "died": isinstance(row["code"], int) and row["code"] not in (0, 1, 2),
        f"{len(errors)} errors": len(errors) != (row["code"] != 0),
        "not said": each.says not in text,
        "steers the terminal": any(map(STEERING.search, text.split("\n"))),
        "the key is shown": KEY in text or "s3cret" in text,
        "memory": row["peak_gib"] >= MOST_GIB,
        "written outside": bool(outside),
        "left behind": bool(row["left"]),
        "connected": bool(row["connections"]),
        "other programs": bool(row["programs"]),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def said(each: Input, text: str) -> str:
    """The line that says what is expected, or the last."""
    lines = text.splitlines() or [""]
    line = next((line for line in lines if each.says in line), lines[-1]).strip()
    at = max(line.find(each.says) - 60, 0)
    return ascii(line[at : at + 150])[1:-1]


def listed(scratch: Path, own: Path) -> dict[str, str]:
    """All files but those that a command may write, with digests of the small ones."""
    paths = [path for path in scratch.rglob("*") if path.is_file() and path.stat().st_size < 2**20]
    writable = [own / name for name in ("workdir", "cache", "calls", "rankings", "run", "temporary", "log")]
    return digests_in(scratch, [path for path in paths if not any(path.is_relative_to(folder) for folder in writable)])


def main(_: list[str]) -> None:
    """The benchmark."""
    inputs = [each for each in INPUTS if each.kind in ONLY.value or not ONLY.value]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        scratch = Path(temporary)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        whole = scratch / "whole.mp4"
        write_video(whole, numbered_frames(12), tone(1.5), lossy=True)
        place = Place(scratch / "setup", whole, scratch / "run", scratch / "prepared", address, scratch / "canary", [])
        place.folder.mkdir()
        kinds = {each.kind for each in inputs}
        if kinds & {"media", "workdir"}:
            start("train", *CONFIG, f"--workdir={place.run}")
        if "prepared" in kinds:
            start("prepare", *config(data_set(place)), f"--output={place.prepared}")
        prepared = next(iter(place.prepared.glob("mer/*/1.0.0")), place.prepared)
        for number, each in enumerate(inputs):
            own = place._replace(folder=scratch / "inputs" / str(number), prepared=prepared, ports=[])
            own.folder.mkdir(parents=True)
            arguments = each.make(own)
            before = listed(scratch, own.folder)
            row, text = run(arguments, own, own.folder / "log")
            after = listed(scratch, own.folder)
            outside = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            try:
                listener.accept()
                row["connections"] += 1
            except BlockingIOError:
                pass
            fault = wrong(each, row, text, outside)
            figures = {name: row[name] for name in ("code", "seconds", "peak_gib", "connections")}
            rows.append({"kind": each.kind, "input": each.name, **figures, "said": said(each, text), "wrong": fault})
            if fault:
                print(each.kind, each.name, fault, outside[:3], row, ascii(text[-1500:]), sep="\n  ", file=sys.stderr)
            shutil.rmtree(own.folder)
    peak = max(row["peak_gib"] for row in rows)
    show(rows, inputs=len(rows), wrong=Counter(row["wrong"] for row in rows if row["wrong"]), peak_gib=peak)


if __name__ == "__main__":
    app.run(main)
