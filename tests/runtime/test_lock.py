"""Two processes never work in one workdir, and a killed one holds nothing."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.lock import check_held, hold

PROGRAM = """
import sys, time
from pathlib import Path
from mer_jax.runtime.lock import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(1000)
"""


def test_a_second_process_is_told_who_holds_the_workdir_until_that_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UsageError, match=rf"in use by process {holder.pid} on \S+ since .*--workdir"):
                hold(tmp_path)
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    hold(tmp_path)
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} ")


def test_the_same_process_may_ask_again(tmp_path):
    hold(tmp_path)
    hold(tmp_path)
    second = [sys.executable, "-c", PROGRAM, tmp_path]
    done = subprocess.run(second, capture_output=True, text=True)
    assert done.returncode and "UsageError" in done.stderr


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    whole = tmp_path / "features" / "speech-1" / "0.safetensors"
    half, foreign = whole.with_name(".0.safetensors.0123abcd.tmp"), tmp_path / "photos" / ".a.0123abcd.tmp"
    checkpoint = tmp_path / "checkpoints" / "ensemble.orbax-checkpoint-tmp-1"
    for folder in (whole.parent, foreign.parent, checkpoint):
        folder.mkdir(parents=True)
    for path in (half, whole, foreign, whole.with_name(".mine.tmp"), checkpoint / "array"):
        path.write_bytes(b"x")
    hold(tmp_path)
    assert whole.exists() and not half.exists() and not checkpoint.exists()
    assert foreign.exists() and whole.with_name(".mine.tmp").exists()  # not of ours


def test_a_full_disk_is_said_with_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/\.lock'"):
        hold(tmp_path)


@pytest.mark.parametrize("again", [False, True])
def test_a_workdir_that_was_removed_is_noticed(tmp_path, again):
    workdir = tmp_path / "run"
    check_held(workdir)  # nobody's
    hold(workdir)
    check_held(workdir)
    shutil.rmtree(workdir)
    if again:
        workdir.mkdir()
        (workdir / ".lock").touch()
    with pytest.raises(DataError, match=r"run: has been removed while this run worked in it; start the same command"):
        check_held(workdir)
