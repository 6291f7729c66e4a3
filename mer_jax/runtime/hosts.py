"""Several hosts that share one workdir: each takes its own part of the work, or one does it for all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

from mer_jax.runtime.errors import UsageError

Item = TypeVar("Item")


def join_hosts() -> None:
    """Connects the processes of a cluster, before JAX is used; raises UsageError where this process is of none."""
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise UsageError(
            "--distributed: this process is not of a Cloud TPU slice, nor started by SLURM, Open MPI or Kubernetes "
            f"({error})"
        ) from error


def own_part(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, for this one of n hosts."""
    return items[jax.process_index() :: jax.process_count()]


def meet(what: str) -> None:
    """Waits until every host is here, and so its files are."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextmanager
def first_host_first(what: str) -> Iterator[None]:
    """The other hosts enter the block when the first has left it, and find its work done."""
    if jax.process_index() > 0:
        meet(what)
    yield
    if jax.process_index() == 0:
        meet(what)
