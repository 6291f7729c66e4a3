"""The sample as a whole: its layout, its repeatability, and how it survives interruptions."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mer_jax.data.challenges import read_mer
from mer_jax.data.sample import generate
from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.generate import FILES, LOCK, SampleSpec, is_written, write_sample
from mer_jax.runtime.errors import DataError

SPEC = SampleSpec(24, 24, 12)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    done = []
    root = write_sample(tmp_path_factory.mktemp("cache") / "sample", SPEC, done.append)
    assert sum(done) == SPEC.total
    return root


@pytest.fixture
def quick(monkeypatch):
    """Lets the workers do nothing, where only the folder's fate is of interest."""
    monkeypatch.setattr(generate, "run_workers", lambda root, count, advance: advance(SPEC.total))


def test_the_sample_reads_as_mer2024(sample):
    dataset = read_mer(sample, "mer2024", EMOTIONS)
    assert dataset.counts() == {"train": 24, "unlabeled": 24, "test": 12}
    assert set(dataset.truth) == {clip.name for clip in dataset.clips if clip.split != "train"}
    reasons = sorted(problem.reason for problem in dataset.problems)
    assert len(reasons) == 2
    assert reasons[0].startswith("clip without a row") and reasons[1] == "row without a clip"
    assert sum(clip.faces is None for clip in dataset.clips) == 3  # no face, no video stream, misnamed
    assert sum(clip.transcript == "" for clip in dataset.clips) == 2
    for clip in dataset.clips:
        if clip.faces:
            crops = np.load(clip.faces)
            assert crops.dtype == np.uint8 and crops.shape[1:] == (112, 112, 3)


def test_csv_columns_are_those_of_mer2024(sample):
    headers = {path.name: path.read_text("utf-8").splitlines()[0] for path in sample.glob("*.csv")}
    assert headers == {
        "label-disdim.csv": "name,discrete,valence",
        "label-test.csv": "name,discrete",
        "label-unlabeled.csv": "name,discrete",
        "label-transcription.csv": "name,chinese,english",
    }


def test_a_second_generation_is_byte_identical_whatever_the_number_of_workers(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    again = contents(write_sample(tmp_path / "sample", SPEC, lambda n: None))
    first = contents(sample)
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


def test_a_whole_sample_is_left_as_it_is(sample):
    before = (sample / "label-disdim.csv").stat()
    done = []
    assert write_sample(sample, SPEC, done.append) == sample
    assert done == [SPEC.total]
    assert (sample / "label-disdim.csv").stat() == before


def test_another_sample_is_replaced(tmp_path, quick):
    root = write_sample(tmp_path / "sample", SPEC, lambda n: None)
    (root / "old").touch()
    write_sample(root, SampleSpec(24, 24, 12, seed=1), lambda n: None)
    assert not (root / "old").exists()
    assert json.loads((root / "sample.json").read_text())["spec"]["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_folder_that_is_no_sample_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DataError, match="holds no sample"):
        write_sample(tmp_path, SPEC, lambda n: None)
    assert (tmp_path / "thesis.txt").exists()


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_running_one_are_not(tmp_path, quick):
    killed, old, running, young = (tmp_path / f".sample.{name}" for name in ("killed", "old", "running", "young"))
    for folder in (killed, old, running, young):
        folder.mkdir()
    (killed / LOCK).touch()
    os.utime(old, (0, 0))
    with open(running / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_sample(tmp_path / "sample", SPEC, lambda n: None)
    assert not killed.exists() and not old.exists() and running.exists() and young.exists()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "flipped", "checksums"])
def test_a_damaged_sample_is_named_and_written_again(sample, tmp_path, capsys, quick, damage):
    root = tmp_path / "sample"
    shutil.copytree(sample, root)
    assert is_written(root, SPEC) and not capsys.readouterr().err
    video = next(root.rglob("*.mp4"))
    content = video.read_bytes()
    match damage:
        case "deleted":
            video.unlink()
        case "emptied":
            video.write_bytes(b"")
        case "flipped":
            video.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
        case "checksums":
            (root / FILES).write_text("[]")
    assert not is_written(root, SPEC)
    named = FILES if damage == "checksums" else str(video.relative_to(root))
    assert named in capsys.readouterr().err
    write_sample(root, SPEC, lambda n: None)
    assert is_written(root, SPEC)


def test_of_two_processes_the_faster_one_wins(tmp_path, monkeypatch):
    def overtaken(root, count, advance):
        monkeypatch.setattr(generate, "run_workers", lambda *_: None)
        write_sample(tmp_path / "sample", SPEC, lambda n: None)
        (tmp_path / "sample/faster").touch()

    monkeypatch.setattr(generate, "run_workers", overtaken)
    write_sample(tmp_path / "sample", SPEC, lambda n: None)
    assert (tmp_path / "sample/faster").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_failing_worker_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "STAMP", "sample-of-the-test.json")  # the workers do not find it
    with pytest.raises(RuntimeError, match="could not make its clips"):
        write_sample(tmp_path / "sample", SPEC, lambda n: None)
    assert list(tmp_path.iterdir()) == []


def test_a_script_without_a_main_guard_can_write_it_and_jax_stays_out(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib\n"
        "from mer_jax.data.sample.generate import SampleSpec, write_sample\n"
        "write_sample(pathlib.Path('sample'), SampleSpec(12, 12, 0), lambda n: print('.' * n))\n"
        "print(sorted({'jax', 'flax', 'torch', 'transformers'} & sys.modules.keys()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    output = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert output.count(".") == 24
    assert output.endswith("[]\n")
