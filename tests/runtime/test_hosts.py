"""Joining hosts, sharing work and waiting for each other; two real ones are in test_extract_command.py."""

import io
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from mer_jax.runtime import hosts
from mer_jax.runtime.errors import DataError, LostHost
from mer_jax.runtime.host_errors import GONE, copy
from mer_jax.runtime.hosts import first_host_first, in_step, meet, own_part


def test_without_a_cluster_there_is_one_clear_error():
    command = [sys.executable, "-m", "mer_jax.extract", "--config=configs/semi.py", "--distributed"]
    done = subprocess.run(command, capture_output=True, text=True)
    line = (
        "error: --distributed: this process is not of a Cloud TPU slice, nor started by SLURM, Open MPI or Kubernetes"
    )
    assert done.returncode == 2 and done.stderr.startswith(line) and done.stderr.count("\n") == 1


class Store:
    """The keys that hosts set for each other to see; one of three is gone after `answers` questions."""

    def __init__(self, answers=10):
        self.keys, self.answers = [], answers

    def key_value_set(self, key, value):
        self.keys.append(key)

    def key_value_dir_get(self, folder):
        if not self.answers:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: closed\nand more")
        self.answers -= 1
        own = [(key, "-") for key in self.keys if key.startswith(folder)]
        return own if self.answers % 3 else own * 3  # the others come at the third question


@pytest.fixture
def host(monkeypatch):
    """Makes this process one of three hosts; gives what it does, in order."""
    done = []
    monkeypatch.setattr(jax, "process_count", lambda: 3)

    def become(index):
        monkeypatch.setattr(jax, "process_index", lambda: index)
        done.clear()
        return done

    return become


def test_hosts_wait_for_each_other(host, monkeypatch):
    host(1)
    store = Store()
    monkeypatch.setattr(hosts.global_state, "client", store)
    meet("faces")
    assert store.answers == 9
    meet("faces")
    assert store.answers == 6 and len({*store.keys}) == 2 and all(key.endswith(" faces/1") for key in store.keys)
    monkeypatch.setattr(hosts.global_state, "client", Store(answers=0))
    with pytest.raises(
        LostHost, match=r"^another host of --distributed is gone, or never came; .* \(UNAVAILABLE: closed\)$"
    ):
        meet("faces")


def test_hosts_that_see_different_files_end(host, monkeypatch):
    host(0)
    found = iter([["-", "-", "-"], ["True", "False", "True"]])
    answers = SimpleNamespace(
        key_value_set=lambda key, value: None, key_value_dir_get=lambda folder: [("", said) for said in next(found)]
    )
    monkeypatch.setattr(hosts.global_state, "client", answers)
    with pytest.raises(DataError, match=r"see different files \(prompts\): give them one --workdir, and one"):
        in_step("prompts", lambda: None)


def test_the_flags_of_explicit_hosts_go_together():
    command = [sys.executable, "-m", "mer_jax.extract", "--config=configs/semi.py", "--distributed", "--hosts=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    line = "error: --coordinator, --hosts and --host go together, with --distributed\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_what_jax_says_of_a_lost_host_is_one_line():
    before = b"  faces: 3/9\n"
    rest = b"1\nThe tasks have crashed. Check the task logs\n"
    silent = b"UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n" + rest
    earlier = b"E1127 02:17:10.525464   20024 coordination_service.cc:1549] [91] Use error polling: " + silent
    fatal = b"F1127 02:17:10 20035 client.h:80] Terminating process because the JAX distributed service detected "
    fatal += b"fatal errors. This most likely indicates that another task died: "
    stack = b"*** Check failure stack trace: ***\n    @     0x7f3f8f640634  absl::lts_20260107\n"
    cases = {
        earlier + fatal + silent + stack: "error: host 1 of --distributed is gone",
        fatal + b"Failed to send RPC\n" + stack: "error: another host of --distributed is gone",
        earlier + f"error: {GONE % 'another host'} (closed)\n".encode(): "error: another host of --distributed is gone",
    }
    for said, line in cases.items():
        target = io.BytesIO()
        copy(io.BytesIO(before + said), target)
        assert target.getvalue().startswith(before)
        told = target.getvalue().removeprefix(before).decode()
        assert told.startswith(line + ", or never came; ") and told.count("\n") == 1
    harmless = before + earlier + b"and on it goes\n"
    target = io.BytesIO()
    copy(io.BytesIO(harmless), target)
    assert target.getvalue() == harmless


def test_each_host_takes_every_nth_item(host):
    parts = []
    for index in range(3):
        host(index)
        parts.append(own_part("abcdefg"))
    assert parts == ["adg", "be", "cf"]


@pytest.mark.parametrize(("index", "order"), [(0, ["work", "meet"]), (1, ["meet", "work"]), (2, ["meet", "work"])])
def test_the_others_enter_when_the_first_has_left(host, monkeypatch, index, order):
    done = host(index)
    monkeypatch.setattr(hosts, "meet", done.append)
    with first_host_first("meet"):
        done.append("work")
    assert done == order
