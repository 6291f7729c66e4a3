"""The errors that are no fault of the code: every command turns them into one line and an exit code."""

from signal import SIGABRT


class UsageError(Exception):
    """The command line or the config is wrong. Exit code 2."""

    exit_code = 2


class DataError(Exception):
    """A folder, csv, checkpoint or media file is not what was expected. Exit code 1."""

    exit_code = 1


class LostHost(DataError):
    """Another host of --distributed is gone. Exit code 6."""

    exit_code = int(SIGABRT)  # by which JAX ends the others
