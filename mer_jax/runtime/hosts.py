"""Several hosts that share one workdir: each takes its own part of the work, or one does it for all."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax._src.distributed import global_state  # as Orbax does: nothing public gives the hosts' store of keys

from mer_jax.runtime.errors import LostHost, UsageError
from mer_jax.runtime.signals import signals_blocked

Item = TypeVar("Item")

MEETINGS = count()  # every host has the same ones
SILENCE = 30  # seconds without a sign of life after which a host is taken for dead


def join_hosts() -> None:
    """Connects the processes of a cluster, before JAX is used; raises UsageError where this process is of none.

    From now on it ends with `LostHost`'s line and exit code when another one has died.
    """
    say_lost_hosts()
    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM to itself
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)
    except ValueError as error:
        raise UsageError(
            "--distributed: this process is not of a Cloud TPU slice, nor started by SLURM, Open MPI or Kubernetes "
            f"({error})"
        ) from error


def say_lost_hosts() -> None:
    """Turns the abort with which JAX's native code answers a lost host, and nothing else can, into line and code."""
    with signals_blocked():
        command = [sys.executable, str(Path(__file__).with_name("host_errors.py"))]
        lines = subprocess.Popen(command, stdin=subprocess.PIPE).stdin
    assert lines
    os.dup2(lines.fileno(), sys.stderr.fileno())
    lines.close()
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGABRT, libc._exit)  # called with the signal's number, which is the code


def own_part(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, for this one of n hosts."""
    return items[jax.process_index() :: jax.process_count()]


def meet(what: str) -> None:
    """Waits until every host is here, and so its files are.

    Not by a collective, whose patience ends after half a minute: another host may be at work for hours.
    """
    if jax.process_count() == 1:
        return
    client: Any = global_state.client
    here = f"meet/{next(MEETINGS)} {what}/"
    try:
        client.key_value_set(f"{here}{jax.process_index()}", "")
        while len(client.key_value_dir_get(here)) < jax.process_count():
            time.sleep(0.1)
    except jax.errors.JaxRuntimeError as error:
        raise LostHost(f"another host of --distributed is gone ({str(error).splitlines()[0]})") from error


@contextmanager
def first_host_first(what: str) -> Iterator[None]:
    """The other hosts enter the block when the first has left it, and find its work done."""
    if jax.process_index() > 0:
        meet(what)
    yield
    if jax.process_index() == 0:
        meet(what)
