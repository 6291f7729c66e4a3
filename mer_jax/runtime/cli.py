"""What every command shares: flags, and errors that end in one line instead of a traceback."""

import errno
import faulthandler
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags, logging

from mer_jax.runtime.compilations import keep_compilations
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.runtime.signals import leave, leave_on_signals, signal_of, unwinding
from mer_jax.runtime.terminal import print_harmlessly
from mer_jax.runtime.usage import usage, version

if TYPE_CHECKING:
    from ml_collections import ConfigDict

HELP = {"--help", "-help", "-h"}
MISSING = re.compile(r"flag --(\w+)=None: Flag --\1 must have a value other than None\.")  # as absl says it
NO_CONFIG = "--config is missing: try --config=configs/semi.py"


def config_flag() -> flags.FlagHolder:
    """--config, whose value is the config."""
    from ml_collections import config_flags  # which commands without a config do without

    from mer_jax.runtime.config_files import ConfigFile

    flag = config_flags.DEFINE_config_file("config", None, "Config file; see configs/semi.py.")
    flags.FLAGS["config"].parser = ConfigFile(name="config")
    return flag


def tensorboard_flag() -> None:
    """--tensorboard, of commands that train."""
    flags.DEFINE_string("tensorboard", None, "Folder for curves of prompts and fusion; needs tensorboardX.")


def parse_flags(module: str, settings_class: type | None = None, wrong: Callable[[], str] = str) -> None:
    """Parses the command line if that module is the command (`__main__`): before its imports, which take seconds.

    Answers --help and --version, and leaves with exit code 2 where something is wrong.

    Args:
        settings_class: what --config is to be read as; it is checked here.
        wrong: what is wrong with the flags together; empty if nothing is.
    """
    if module != "__main__":
        return
    leave_on_signals()
    print_harmlessly()
    flags.DEFINE_string("profile", None, "Folder for a profile of minutes, which XProf and TensorBoard read.")
    asked = HELP & set(sys.argv)
    if "--version" in sys.argv:
        print(version())
        sys.exit()
    try:
        with suppress(*(flags.Error,) * bool(asked)):  # such as that a flag is missing
            if others := flags.FLAGS([each for each in sys.argv if each not in asked])[1:]:
                raise UsageError(f"unexpected argument {others[0]!r}: flags look like --name=value")
        config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
        settings = settings_class and read_settings(settings_class, {} if config is None else config)
        if asked:
            print(usage(sys.modules[module].__doc__ or "", settings))
            sys.exit()
        if problem := wrong():
            raise UsageError(problem)
        if "tensorboard" in flags.FLAGS and flags.FLAGS.tensorboard and not find_spec("tensorboardX"):
            raise UsageError("--tensorboard needs tensorboardX: pip install tensorboardX")
    except (KeyError, AttributeError) as error:
        fail(f"unknown config key {reason(error)}", UsageError.exit_code)
    except (UsageError, flags.Error, TypeError, ValueError, OSError) as error:
        fail(MISSING.sub(r"--\1 is missing", reason(error)), UsageError.exit_code)
    hide_torch()


def parse_run_flags(module: str, settings_class: type) -> None:
    """`parse_flags` for one part of the main job, which `run_configured` runs: with --config and --workdir."""
    if module == "__main__":
        config = config_flag()
        flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<variant>.")
        parse_flags(module, settings_class, lambda: "" if config.value else NO_CONFIG)


def hide_torch() -> None:
    """Has transformers take PyTorch for absent, which it would import in seconds, and of which nothing here is."""
    if find_spec("torch") and "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]
        with suppress(ModuleNotFoundError):
            from transformers import is_torch_available

            is_torch_available()  # it remembers
        del sys.modules["torch"]


def run(main: Callable[[], None]) -> None:
    """Calls `main`, with the flags parsed.

    Exit code 2 for usage errors, 1 for data errors; 130 after Ctrl-C and 143 after SIGTERM, as shells count signals.
    """
    if not flags.FLAGS.is_parsed():
        parse_flags("__main__")
    faulthandler.enable()
    logging.use_absl_handler()
    logging.set_verbosity(logging.FATAL)  # Orbax tells of every step, and of errors that it raises as well
    try:
        keep_compilations()
        from mer_jax.runtime.profiling import profiled  # brings JAX

        with unwinding(), profiled():
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


def run_configured(main: "Callable[[ConfigDict, Path], None]") -> None:
    """`run` for one part of the main job: its config and its workdir are what `main` gets."""

    def configured() -> None:
        config = flags.FLAGS.config
        main(config, Path(flags.FLAGS.workdir or f"runs/{config.variant}"))

    run(configured)


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
