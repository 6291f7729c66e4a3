"""Profiles and their names, and how long the devices were busy."""

import subprocess
import sys
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
    """Ready only after a while, as what a device computes."""

    def __init__(self, seconds):
        self.ready = time.perf_counter() + seconds

    def block_until_ready(self):
        time.sleep(max(0, self.ready - time.perf_counter()))


def test_programs_on_the_devices_at_once_count_once():
    clock = DeviceClock()
    start = time.perf_counter()
    for _ in range(3):
        clock(Result, 0.2)
    dispatched = time.perf_counter() - start
    busy = clock.seconds
    assert 0.2 <= busy <= time.perf_counter() - start
    assert dispatched < 0.2  # nobody has waited
    time.sleep(0.3)
    assert clock.seconds == busy
    clock(Result, 0.1)
    assert clock.seconds >= busy + 0.1


def test_a_program_that_fails_is_told_to_its_caller():
    clock = DeviceClock()
    with pytest.raises(TypeError):
        clock(jax.jit(jnp.sin))
    assert clock.seconds == 0
    assert float(clock(jax.jit(jnp.cos), 0.0)) == 1 and clock.seconds > 0
