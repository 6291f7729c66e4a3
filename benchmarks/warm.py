"""Commands that are started often, in a process that has imported and compiled what they need.

Each start runs the command's module as `python -m` does, flags and all. What the process keeps between two starts are
imported modules, compiled programs and idle decoding workers.
"""

import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from absl import flags

from benchmarks.memory import free_programs
from mer_jax.runtime import cli


class Warm:
    """A process for the starts of one command."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.warm"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, command: Sequence[str], log: Path, **environment: str) -> int:
        """One start of `python -m *command`; its exit code. log: where all that it prints goes."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps([list(command), str(log), environment]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def run(command: Sequence[str]) -> int:
    """Runs a command in this process; its exit code."""
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        flags.FLAGS.unparse_flags()
        for name in list(flags.FLAGS):  # which the next command may define as well
            if name.startswith("config") or flags.FLAGS.find_module_defining_flag(name) in (command[0], cli.__name__):
                delattr(flags.FLAGS, name)
    return 0


def main() -> None:
    """Starts what standard input asks for, line by line."""
    os._exit = sys.exit  # type: ignore[assignment]  # by which a command that fails ends its process, and would end this one
    for line in sys.stdin:
        command, log, environment = json.loads(line)
        os.environ.update(environment)
        with (
            open(log, "w", encoding="utf-8", errors="backslashreplace") as file,
            redirect_stderr(file),
            redirect_stdout(file),
        ):
            code = run(command)
            free_programs()
        print(code, flush=True)


if __name__ == "__main__":
    main()
