"""Errors of the command line: one line, and the exit code that says whose they are."""

import errno
import json
import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest

from mer_jax.runtime.cli import system_error


def run(*arguments):
    command = [sys.executable, "-m", "mer_jax.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--config=configs/semi.py", "--config.fusion.hiden=3"], 2, "unknown config key 'hiden'"),
        (["--config=configs/semi.py", "--config.cv.folds=1", "--workdir={tmp}/run"], 2, "cv.folds=1: at least 2"),
        (["--config=configs/none.py"], 2, "configs/none.py: no such config file; configs/ holds configs/best.py, "),
        (["--config=configs/none.py:mer2024,root=/a:b"], 2, "configs/none.py: no such config file; "),
        (["--config=nowhere/semi.py"], 2, "nowhere/semi.py: no such config file; nowhere/ holds nothing"),
        (["--config=configs/semi.py:mer2023"], 2, "unknown variant 'mer2023'"),
        (
            ["--config=configs/semi.py:mer2024,root=/nowhere,encoders=bundled", "--workdir={tmp}/run"],
            1,
            "/nowhere: no such folder",
        ),
        (["--workdir={tmp}/none"], 2, "holds no run"),
        (["--nonsense"], 2, "nonsense"),
    ],
)
def test_one_line_no_traceback(tmp_path, arguments, code, message):
    done = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr and not done.stdout
    assert not (tmp_path / "run" / "config.json").exists()  # the workdir is still free


def test_what_is_missing_is_said_plainly():
    command = [sys.executable, "-m", "mer_jax.predict", "--input=a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "error: --workdir is missing\n")


UP = "print('up', flush=True); time.sleep(60)"
MOMENTS = {
    "imports": "",
    "flags": "",
    "work": f"cli.run(lambda: exec({UP!r}))",
    "a finaliser": f"""
class Resource:
    def __del__(self):
        {UP}

cli.run(lambda: Resource() and None)
""",
    "an error on the way": f"""
def main():
    try:
        {UP}
    except BaseException as error:
        raise RuntimeError("a library's") from error

cli.run(main)
""",
    "the end": f"import atexit; atexit.register(lambda: exec({UP!r})); cli.run(lambda: None)",
}


@pytest.mark.parametrize(
    ("sign", "code", "how"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_signals_are_one_line_at_any_moment(tmp_path, moment, sign, code, how):
    """Early ones are held in the imports by a stand-in for a library, and in the flags by the config file."""
    command = ["-c", f"import time; from mer_jax.runtime import cli\n{MOMENTS[moment]}"]
    if not MOMENTS[moment]:
        stand_in = tmp_path / ("numpy.py" if moment == "imports" else "config.py")
        stand_in.write_text(f"import time; {UP}")
        config = "configs/sweep.py" if moment == "imports" else stand_in
        command = ["-m", "mer_jax.sweep", f"--config={config}", "--workdir=none"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen([sys.executable, *command], text=True, stdout=PIPE, stderr=PIPE, env=environment) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(sign)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors == f"error: {how}; the same command goes on where this one has ended\n"


def test_a_reader_that_has_gone_is_one_line():
    program = "from mer_jax.runtime import cli; cli.run(lambda: print('x' * 10**6))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE) as process:
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert errors.startswith("error: a file: Broken pipe; ") and errors.count("\n") == 1


RAISES = """
import errno, os
from mer_jax.runtime import cli

def main():
    try:
        raise OSError(errno.{code}, os.strerror(errno.{code}), "runs/a/features.tmp")
    except OSError as error:
        {then}

cli.run(main)
"""


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EFBIG"])
@pytest.mark.parametrize(
    "then", ["raise", 'raise ValueError("checkpoint") from error', 'raise ValueError("checkpoint")'], ids=len
)
def test_what_the_system_has_against_a_path_is_one_line(code, then):
    done = subprocess.run([sys.executable, "-c", RAISES.format(code=code, then=then)], capture_output=True, text=True)
    strerror = os.strerror(getattr(errno, code))
    rest = "once that is mended, the same command goes on where this one has ended"
    line = f"error: runs/a/features.tmp: {strerror}; {rest}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_a_library_may_keep_no_more_of_it_than_its_text():
    text = "RESOURCE_EXHAUSTED: Error writing\n  file: No space left on device [ocdbt]"
    assert system_error(ValueError(text)) == "file: No space left on device [ocdbt]"
    assert system_error(ValueError("another")) == ""


def test_errors_of_ours_stay_tracebacks():
    then = 'raise ValueError("a bug") from None'
    done = subprocess.run(
        [sys.executable, "-c", RAISES.format(code="ENOSPC", then=then)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and "ValueError: a bug" in done.stderr


HOSTILE = "a\x1b]0;owned\x07\x9b2J\bb\u202etxt.exe\udcff"
SHOWN = r"a\u001b]0;owned\u0007\u009b2J\u0008b\u202etxt.exe\udcff"


def test_nothing_that_is_printed_steers_the_terminal():
    then = f"print(json.dumps({HOSTILE!r}, ensure_ascii=False)); raise DataError({HOSTILE!r} + '\\nnext')"
    program = "import json; from mer_jax.runtime import cli; from mer_jax.runtime.errors import DataError\n"
    program += f"def main(): {then}\ncli.run(main)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert (done.returncode, json.loads(done.stdout)) == (1, HOSTILE)
    assert done.stderr == f"error: {SHOWN}, next\n"
