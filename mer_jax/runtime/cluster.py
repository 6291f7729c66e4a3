"""Joining the processes of several hosts: the flags that every command with `--distributed` has."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from absl import flags

from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import leave_writing_to_the_first_host
from mer_jax.runtime.signals import signals_blocked
from mer_jax.runtime.terminal import Harmless

DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several hosts (Cloud TPU, SLURM, Kubernetes) that share the workdir and the work."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "With --distributed where no scheduler says it: address:port, free on the first host."
)
HOSTS = flags.DEFINE_integer("hosts", None, "With --coordinator: how many processes there are.", lower_bound=1)
HOST = flags.DEFINE_integer("host", None, "With --coordinator: the number of this one, from 0.", lower_bound=0)

KEPT_OPEN: list[TextIO] = []  # which would be closed with the objects that stand for them
SILENCE = 30  # seconds without a sign of life after which a host is taken for dead


def join_hosts() -> None:
    """Connects the processes of a cluster, before JAX is used, if `--distributed` is given.

    From now on it ends with `LostHost`'s line and exit code when another one has died; the first host writes what all
    of them have, and prints the results.

    Raises:
        UsageError: this process is of no cluster, or the flags do not fit together.
    """
    coordinator, hosts, host = COORDINATOR.value, HOSTS.value, HOST.value
    given = [value is not None for value in (coordinator, hosts, host)]
    if any(given) and not (all(given) and DISTRIBUTED.value):
        raise UsageError("--coordinator, --hosts and --host go together, with --distributed")
    if not DISTRIBUTED.value:
        return
    if hosts is not None and host is not None and host >= hosts:
        raise UsageError(f"--host={host} is none of --hosts={hosts}, which count from 0")
    import jax  # a command's flags are read without

    say_lost_hosts()
    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM to itself
    try:
        jax.distributed.initialize(coordinator, hosts, host, heartbeat_timeout_seconds=SILENCE)
    except ValueError as error:
        raise UsageError(
            "--distributed: this process is not of a Cloud TPU slice, nor started by SLURM, Open MPI or Kubernetes; "
            f"give --coordinator, --hosts and --host ({error})"
        ) from error
    if jax.process_index() > 0:
        leave_writing_to_the_first_host()
    print_apart(jax.process_index() == 0)


def print_apart(results: bool) -> None:
    """Keeps standard output for Python, and that for `results`: native code talks there of its connections."""
    before, number = sys.stdout, sys.stdout.fileno()
    after = open(os.dup(number) if results else os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(sys.stderr.fileno(), number)
    KEPT_OPEN.extend((before, after))
    sys.stdout = Harmless(after)


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
