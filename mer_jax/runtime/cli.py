"""What every command shares: flags, and errors that end in one line instead of a traceback."""

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.signals import leave, leave_on_signals, signal_of, unwinding
from mer_jax.runtime.terminal import print_harmlessly


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`.

    Exit code 2 for usage errors, 1 for data errors; 130 after Ctrl-C and 143 after SIGTERM, as shells count signals.
    """
    leave_on_signals()
    print_harmlessly()

    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.FATAL)  # Orbax tells of every step, and of errors that it raises as well
        try:
            if len(argv) > 1:
                raise UsageError(f"unexpected argument {argv[1]!r}: flags look like --name=value")
            with unwinding():
                main()
                sys.stdout.flush()
        except BaseException as error:
            if stop := next((each for each in chain(error) if isinstance(each, KeyboardInterrupt)), None):
                leave(signal_of(type(stop)))  # whatever else went wrong on the way out
            if isinstance(error, UsageError | DataError):
                fail(error, error.exit_code)
            if not (cause := system_error(error)):
                raise
            fail(f"{cause}; once that is mended, the same command goes on where this one has ended", 1)

    app.run(guarded, flags_parser=parse)


def run_configured(main: Callable[[ConfigDict, Path], None]) -> None:
    """`run` for one part of the main job: the flags --config and --workdir give what `main` gets."""
    config = config_flags.DEFINE_config_file("config", None, "Config file; see configs/semi.py.")
    workdir = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<variant>.")

    def configured() -> None:
        if config.value is None:
            raise UsageError("--config is missing: try --config=configs/semi.py")
        main(config.value, Path(workdir.value or f"runs/{config.value.variant}"))

    run(configured)


def parse(argv: list[str]) -> list[str]:
    """Command line -> leftover arguments. Config files run here, so their errors count as usage errors."""
    try:
        leftover = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            file = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0])
            if not file.is_file():
                there = ", ".join(map(str, sorted(file.parent.glob("*.py")))) or "nothing"
                raise UsageError(f"{file}: no such config file; {file.parent}/ holds {there}")
            flags.FLAGS.config.to_dict()  # raises for a file that could not be read
        return leftover
    except (KeyError, AttributeError) as error:
        fail(f"unknown config key {reason(error)}", UsageError.exit_code)
    except (UsageError, flags.Error, TypeError, ValueError, OSError) as error:
        fail(reason(error), UsageError.exit_code)


def reason(error: BaseException) -> str:
    """What an error says: the innermost message, without the quotes that KeyError adds."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return str(error.args[0]) if isinstance(error, KeyError) else str(error)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # also told from the text of a library's error
SYSTEM = (
    *FULL,
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EPIPE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.EBUSY, errno.ENODEV),
    *(errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
"""What the system may have against a path: full, too small a quota or limit, not to be written, broken, gone."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those behind it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def system_error(error: BaseException) -> str:
    """What the system has against a path, where that is behind an error, however deep; empty if it is not.

    Libraries chain such errors, and some keep no more of them than their text.
    """
    for each in chain(error):
        if isinstance(each, OSError) and each.errno in SYSTEM:
            return f"{each.filename or 'a file'}: {each.strerror}"
    lines = (line.strip() for each in chain(error) for line in str(each).splitlines())
    return next((line for line in lines if any(os.strerror(number) in line for number in FULL)), "")


def fail(message: object, exit_code: int) -> NoReturn:
    """Prints the one line, also of a message of several, and leaves.

    Nothing is waited for, neither threads nor other hosts, and Python has no word on a broken pipe.
    """
    lines = filter(None, map(str.strip, str(message).splitlines()))
    print("error:", ", ".join(lines), file=sys.stderr, flush=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(exit_code)
