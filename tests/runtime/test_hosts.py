"""Joining hosts, sharing work and waiting for each other; two real ones are in test_extract_command.py."""

import jax
import pytest

from mer_jax.runtime import hosts
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.hosts import first_host_first, join_hosts, own_part


def test_without_a_cluster_there_is_one_clear_error(monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")  # what jax says

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UsageError, match=r"--distributed: .* SLURM, Open MPI or Kubernetes \(coordinator_address"):
        join_hosts()


@pytest.fixture
def host(monkeypatch):
    """Makes this process one of three hosts; gives what it does, in order."""
    done = []
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(hosts.multihost_utils, "sync_global_devices", done.append)

    def become(index):
        monkeypatch.setattr(jax, "process_index", lambda: index)
        done.clear()
        return done

    return become


def test_each_host_takes_every_nth_item(host):
    parts = []
    for index in range(3):
        host(index)
        parts.append(own_part("abcdefg"))
    assert parts == ["adg", "be", "cf"]


@pytest.mark.parametrize(("index", "order"), [(0, ["work", "meet"]), (1, ["meet", "work"]), (2, ["meet", "work"])])
def test_the_others_enter_when_the_first_has_left(host, index, order):
    done = host(index)
    with first_host_first("meet"):
        done.append("work")
    assert done == order
