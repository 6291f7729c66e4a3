"""The benchmark for a card, on a CPU: each part at small sizes, its process, its table, and the stand-ins."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks.accelerator import ours
from benchmarks.accelerator.bare import StandInFinder
from benchmarks.accelerator.measure import Work, by_size
from benchmarks.accelerator.sizes import small_sizes
from tests.commands import import_command
from tests.oracle import HAS_TORCH

command = import_command("__main__", "benchmarks.accelerator")

LINE = {"seconds": 2.0, "low": 1.0, "high": 4.0, "rate": 10.0, "flops/s": 5e12, "bytes/s": 0.0, "compile": 3.0}


def minute():
    return time.monotonic() + 60


@pytest.mark.parametrize("part", ours.PARTS)
def test_each_part_is_correct_and_has_a_rate(part):
    first, *lines = ours.lines(part, small_sizes(), minute())
    assert lines and not any("failed" in line for line in [first, *lines]), [first, *lines]
    assert first["right"] if part != "products" else first["platform"] == "cpu"
    assert all(line["rate" if part != "products" else "seconds"] > 0 for line in lines)


@pytest.mark.skipif(not HAS_TORCH, reason="compares with torch")
@pytest.mark.parametrize("part", [part for part in ours.PARTS if part != "products"])
def test_each_part_has_a_peer(part):
    from benchmarks.accelerator import torch_peers

    lines = list(torch_peers.lines(part, small_sizes(), minute()))
    assert lines and all(line.get("rate", 0) > 0 for line in lines), lines


def test_what_is_wrong_is_not_timed_and_an_error_is_a_line(monkeypatch):
    def wrong(sizes, end):
        yield {"parity": "features 1 <= 0.05", "right": False}
        raise AssertionError("timed")

    def broken(sizes, end):
        raise RuntimeError("no\nmemory")
        yield

    monkeypatch.setattr(ours, "PARTS", {"wrong": wrong, "broken": broken})
    assert [line["right"] for line in ours.lines("wrong", small_sizes(), minute())] == [False]
    assert list(ours.lines("broken", small_sizes(), minute())) == [{"failed": "RuntimeError: no memory"}]


def test_batches_grow_while_that_helps():
    def make(size):
        if size > 4:
            raise MemoryError("too large")
        return Work(lambda: time.sleep(0.02), size)

    lines = list(by_size([1, 2, 4, 8, 16], make, lambda _: None, minute()))
    assert [line["batch"] for line in lines] == [1, 2, 4, 8]
    assert "failed" in lines[-1] and all("rate" in line for line in lines[:-1])
    same = list(by_size([1, 2, 4], lambda size: Work(lambda: time.sleep(0.02 * size), size), lambda _: None, minute()))
    assert len(same) == 2
    assert len(list(by_size([1, 2], make, lambda _: None, time.monotonic()))) == 1


def test_a_row_has_the_best_of_either():
    slower, failed = LINE | {"rate": 4.0, "batch": 8}, {"batch": 64, "failed": "MemoryError: full"}
    right = {"parity": "bfloat16 1e-3 <= 0.05", "right": True}
    peers = [LINE | {"rate": 5.0, "batch": 8, "how": "eager"}, LINE | {"rate": 4.0, "batch": 8, "how": "compiled"}]
    row = command.row("clip", [right, slower, LINE | {"batch": 16}, failed], peers, {"bfloat16": 1e13, "memory": 1e12})
    assert (row["ours"], row["batch"], row["torch"], row["by"], row["of peak"]) == (10, 16, 5, "eager", "50%")
    assert row["ratio"] == "2.00 (0.50 to 8.00)" and "of bandwidth" not in row
    assert row["correct"].startswith("yes") and row["note"] == "ours: MemoryError: full"


@pytest.mark.parametrize(
    ("part", "seconds", "failed"), [("dies", 30, "exit code 3: why"), ("hangs", 0.5, "not done after 0 s")]
)
def test_a_process_that_dies_or_takes_too_long_is_a_line(monkeypatch, tmp_path, part, seconds, failed):
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\necho noise\necho \'@measured {"rate": 1.0}\'\necho why >&2\n[ "$3" = hangs ] && sleep 60\nexit 3\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(command, "SMALL", SimpleNamespace(value=True))
    assert command.measure("ours", part, seconds) == [{"rate": 1.0}, {"failed": failed}]


def test_the_command(tmp_path):
    output = tmp_path / "card.json"
    flags = ["--small", "--only=sweep", "--seconds=300", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", *flags], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    products, sweep, *_, whole = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert products["card"] == "cpu" and set(products["TFLOP/s and TB/s"]) == {
        "bfloat16",
        "float32, by default",
        "float32, whole",
        "memory",
    }
    assert sweep["correct"].startswith("yes") and sweep["ours"] > 0
    assert whole["rows"] == json.loads(output.read_text("utf-8"))["rows"]
    refused = subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", "--only=clips"], capture_output=True, text=True
    )
    assert refused.returncode and "unknown; known: products,clip" in refused.stdout + refused.stderr


def test_stand_ins(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, StandInFinder(["not_there"])])
    from not_there import Float
    from not_there.part import function

    assert Float[int, "B T"] | None and isinstance(function.anything, type)
    assert not isinstance(1, Float)
