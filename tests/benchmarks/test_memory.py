"""What the memory benchmarks read and how they sum it up."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.memory import Memory, halves, status


def test_status_of_this_process_and_of_one_that_has_ended():
    for sizes in (status(), status(os.getpid())):
        parts = sizes["RssAnon"] + sizes["RssFile"] + sizes["RssShmem"]
        assert parts == pytest.approx(sizes["VmRSS"], rel=0.01) and sizes["VmRSS"] > 10
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet waited for
    assert "VmRSS" not in status(process.pid)
    process.wait()


def test_memory_sees_what_is_allocated_meanwhile():
    def wait_for_samples(memory, count):
        while len(memory.samples) < count:
            time.sleep(0.01)

    with Memory() as memory:
        wait_for_samples(memory, 1)
        block = np.ones(50 * 2**17)  # 50 MiB
        wait_for_samples(memory, len(memory.samples) + 2)
    assert memory.resident.max() - memory.resident[0] > 40 and block.all()


@pytest.mark.parametrize("samples, peaks", [([1, 5, 2, 3], (5, 3)), ([4.4], (4, 4)), ([1, 9, 2], (9, 9))])
def test_halves_share_the_middle(samples, peaks):
    assert tuple(halves(samples).values()) == peaks
