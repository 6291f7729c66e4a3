"""Joining hosts; two real ones are in test_extract_command.py."""

import jax
import pytest

from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.hosts import join_hosts


def test_without_a_cluster_there_is_one_clear_error(monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")  # what jax says

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UsageError, match=r"--distributed: .* SLURM, Open MPI or Kubernetes \(coordinator_address"):
        join_hosts()
