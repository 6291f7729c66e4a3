"""The command: what it refuses, and that an output is only gone on with by the same command."""

import subprocess
import sys

import pytest

from mer_jax.runtime.files import dump_json, load_json
from tests.recognition.tiny_run import write_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def test_an_output_of_another_text_is_refused(workdir, tmp_path):
    """Also where no file can be read, so that nothing has to be computed."""
    (tmp_path / "a.wav").write_bytes(b"no sound")
    command = [sys.executable, "-m", "mer_jax.predict", f"--workdir={workdir}", f"--input={tmp_path / 'a.wav'}"]

    def predict(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1]

    printed = predict("--text=hi")
    output = tmp_path / "lines.jsonl"
    assert printed[0] == 1 and "1 of 1 files cannot be used" in printed[2]
    assert predict("--text=hi", f"--output={output}") == (1, "", printed[2])
    assert output.read_text("utf-8") == printed[1]
    code, _, line = predict("--text=ho", f"--output={output}")
    assert code == 1 and line.startswith(f"error: {output}: not written by this command")
    assert output.read_text("utf-8") == printed[1]


def test_an_unfinished_run_is_named_before_anything_is_opened(workdir, tmp_path):
    dump_json(tmp_path / "config.json", load_json(workdir / "config.json"))
    command = [sys.executable, "-m", "mer_jax.predict", f"--workdir={tmp_path}", "--input=/nowhere.mp4"]
    done = subprocess.run(command, capture_output=True, text=True)
    line = f"error: {tmp_path}: its run is not finished; start the same mer_jax.train command again"
    assert (done.returncode, done.stdout, done.stderr.strip().splitlines()[-1]) == (1, "", line)
