"""The two errors a user can cause; every command turns them into one line and an exit code."""


class UsageError(Exception):
    """The command line or the config is wrong. Exit code 2."""

    exit_code = 2


class DataError(Exception):
    """A folder, csv, checkpoint or media file is not what was expected. Exit code 1."""

    exit_code = 1
