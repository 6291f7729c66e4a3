"""Profiles and their names, and how long the devices were busy."""

import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from mer_jax.runtime.profiling import DeviceClock

COMMAND = """
import sys, time
import jax, jax.numpy as jnp
from mer_jax.runtime import cli
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.profiling import named, step

def main():
    with named("the stage"):
        step("the step", 7, jax.jit(jnp.sin), jnp.ones(3)).block_until_ready()
    if "--profile=bad" not in sys.argv:
        raise DataError("broken")

cli.run(main)
"""


def test_a_profile_holds_stages_and_steps_also_of_a_command_that_fails(tmp_path):
    flags = [f"--profile={tmp_path / 'new' / 'profile'}"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *flags], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "error: broken", done.stderr
    (file,) = (tmp_path / "new" / "profile").rglob("*.xplane.pb")
    content = file.read_bytes()
    assert b"the stage" in content and b"the step" in content


def test_a_profile_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    flags = [f"--profile={tmp_path / 'file'}"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *flags], capture_output=True, text=True)
    assert done.returncode == 1 and "error: " in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


class Result:
    """Ready once `done` is set, as what a device computes."""

    def __init__(self, done):
        self.done = done

    def block_until_ready(self):
        self.done.wait()


def test_programs_on_the_devices_at_once_count_once():
    clock, start = DeviceClock(), time.perf_counter()
    done = threading.Event()
    for _ in range(3):
        clock(Result, done)  # nobody waits, or this would not end
    time.sleep(0.1)
    done.set()
    busy = clock.seconds
    assert 0.1 <= busy <= time.perf_counter() - start
    time.sleep(0.1)
    assert clock.seconds == busy
    clock(Result, done)
    assert busy < clock.seconds <= time.perf_counter() - start - 0.1


def test_compiling_is_not_being_busy():
    def slow_to_trace(x):
        time.sleep(0.5)
        return x + 1

    clock = DeviceClock()
    start = time.perf_counter()
    clock(jax.jit(slow_to_trace), jnp.ones(3))
    busy = clock.seconds
    assert busy <= time.perf_counter() - start - 0.5


def test_a_program_that_fails_is_told_to_its_caller():
    clock = DeviceClock()
    with pytest.raises(TypeError):
        clock(jax.jit(jnp.sin))
    assert clock.seconds == 0
    assert float(clock(jax.jit(jnp.cos), 0.0)) == 1 and clock.seconds > 0
