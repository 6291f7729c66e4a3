"""Standard input to standard error, with one line in place of what JAX says where another host is gone.

A process of its own, beside one of several hosts: JAX's native code aborts the process in which it says that.
"""

import re
import sys
from typing import BinaryIO

FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
EARLIER = re.compile(rb"E\d{4} .* coordination_service")  # what it says of the same before
SILENT = re.compile(rb"stopped sending heartbeats\):\s*([\d, \n]*\d)")
LINE = (
    "error: %s of --distributed is gone, or never came; the same command on all hosts goes on where they have ended\n"
)


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copies lines, and says in one which host is gone."""
    earlier = b""
    for line in source:
        if FATAL in line:
            numbers = SILENT.search(earlier + line + b"".join(source))
            hosts = " ".join(numbers[1].decode().split()) if numbers else ""
            target.write((LINE % (f"host {hosts}" if hosts else "another host")).encode())
            return
        if earlier or EARLIER.match(line):
            earlier += line
        else:
            target.write(line)
            target.flush()
    target.write(earlier)


if __name__ == "__main__":
    copy(sys.stdin.buffer, sys.stderr.buffer)
