"""One process at a time works in a workdir."""

import errno
import fcntl
import os
import re
import shutil
import socket
import sys
from datetime import datetime
from pathlib import Path

import jax

from mer_jax.runtime.errors import DataError, UsageError

HELD: dict[Path, int] = {}  # file descriptors, open for as long as this process lives, and so the locks
LEFTOVER = re.compile(r"\.[^/]+\.[0-9a-f]{8}\.tmp|.+\.orbax-checkpoint-tmp.*")  # what a killed process was writing
FOLDERS = ("features", "faces", "self_training", "checkpoints", "report", "predictions", "sweeps")  # of a run


def hold(workdir: Path, flag: str = "--workdir") -> None:
    """Locks a workdir until this process ends, however it does, and removes what a killed one has left half-written.

    flag: of the command line, that gives the folder. Of several hosts that share the workdir the first one holds it.

    Raises:
        UsageError: another process works in it.
    """
    path = workdir.absolute() / ".lock"
    if jax.process_index() > 0 or path in HELD:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        # A record lock, which the system keeps for a process: a killed one's is gone, and shared file systems know it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            reason = f"{workdir} cannot be locked ({error.strerror})"
            print(f"  {reason}: start one command at a time in it", file=sys.stderr)
            return
        holder = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
        raise UsageError(f"{workdir} is in use by {holder}: wait for that, or choose another {flag}") from error
    HELD[path] = file
    holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}"
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode(), 0)
    except OSError as error:
        error.filename = str(path)
        raise
    places = [*workdir.glob("*"), *(path for folder in FOLDERS for path in (workdir / folder).rglob("*"))]
    for leftover in filter(lambda path: LEFTOVER.fullmatch(path.name), places):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def check_held(workdir: Path) -> None:
    """Raises DataError where a workdir that this process holds has been removed, or another put in its place."""
    path = workdir.absolute() / ".lock"
    if path in HELD and not (path.exists() and os.path.samestat(os.fstat(HELD[path]), path.stat())):
        raise DataError(f"{workdir}: has been removed while this run worked in it; start the same command again")
