"""Standard input to standard error, with one line in place of what JAX says where another host is gone.

A process of its own, beside one of several hosts: JAX's native code aborts the process in which it says that.
"""

import re
import sys
from collections.abc import Iterable
from itertools import takewhile
from typing import BinaryIO

FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
EARLIER = re.compile(rb"E\d{4} .* coordination_service")  # what it says of the same before
GLOO = b"[Gloo] Rank "  # how many hosts are connected
STACK = b"*** Check failure stack trace"
SILENT = re.compile(rb"stopped sending heartbeats\):\s*([\d, \n]*\d)")
GONE = "%s of --distributed is gone, or never came; the same command on all hosts goes on where they have ended"


def copy(source: Iterable[bytes], target: BinaryIO) -> None:
    """Copies lines, and says in one which host is gone."""
    earlier = b""
    for line in source:
        if FATAL in line:
            rest: list[bytes] = list(takewhile(lambda rest: STACK not in rest, source))
            numbers = SILENT.search(b"".join([earlier, line, *rest]))
            hosts = " ".join(numbers[1].decode().split()) if numbers else ""
            target.write(f"error: {GONE % (f'host {hosts}' if hosts else 'another host')}\n".encode())
            target.flush()
            break
        if line.startswith(GLOO):
            continue
        if earlier or EARLIER.match(line):
            earlier += line
        else:
            target.write(line)
            target.flush()
    else:
        # Where a call has met the same first, its line says all.
        target.write(b"".join(earlier.rpartition(f"error: {GONE % 'another host'}".encode())[1:]))
    for _ in source:  # or who goes on writing would end of that
        pass


if __name__ == "__main__":
    copy(sys.stdin.buffer, sys.stderr.buffer)
