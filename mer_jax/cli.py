"""What every command shares: flags, and errors that end in one line instead of a traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from mer_jax.errors import DataError, UsageError


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`. Exit code 2 for usage errors, 1 for data errors."""

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise UsageError(f"unexpected argument {argv[1]!r}: flags look like --name=value")
            main()
        except (UsageError, DataError) as error:
            fail(error, error.exit_code)

    app.run(guarded, flags_parser=parse)


def parse(argv: list[str]) -> list[str]:
    """Command line -> leftover arguments. Config files run here, so their errors count as usage errors."""
    try:
        return flags.FLAGS(argv)
    except UsageError as error:
        fail(error, 2)
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError, OSError) as error:
        fail(str(error.args[0]) if error.args else repr(error), 2)


def fail(message: object, exit_code: int) -> None:
    """Prints the one line and leaves."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(exit_code)
