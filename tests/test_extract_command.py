"""The extract command: what it prints and leaves, and that a second start finds everything done."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from mer_jax import models
from mer_jax.features.store import FeatureStore

COMMAND = [sys.executable, "-m", "mer_jax.extract"]
TRAIN = [sys.executable, "-m", "mer_jax.train"]


def extract(*arguments, command=COMMAND):
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


def transcripts(root):
    """The flag for a data set of three transcripts, one of which is empty."""
    root.mkdir()
    (root / "clips.csv").write_text("name,label,text\na,happy,今天真高兴\nb,sad,我很难过\nc,sad,\n", "utf-8")
    return f"--config=configs/semi.py:folder,encoders=bundled,root={root},modalities=text"


def test_a_folder_of_transcripts(tmp_path):
    workdir = tmp_path / "run"
    command = [transcripts(tmp_path / "data"), f"--workdir={workdir}"]
    first = extract(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout == "text: 2 of 3 clips have it, 256 numbers each\n"
    (shard,) = workdir.glob("features/text-*/*.safetensors")
    written = shard.stat().st_mtime_ns
    assert extract(*command).stdout == first.stdout
    assert [path.stat().st_mtime_ns for path in workdir.glob("features/text-*/*")] == [written]


def test_training_goes_on_with_extracted_features(tmp_path):
    workdir, table = tmp_path / "run", tmp_path / "data" / "clips.csv"
    config = transcripts(tmp_path / "data")
    table.write_text("name,label,text\na,happy,今天真高兴\nb,sad,我很难过\nc,happy,太好了\nd,sad,别走\n", "utf-8")
    arguments = [config, f"--workdir={workdir}", "--config.cv.folds=2"]
    assert extract(*arguments).returncode == 0
    (shard,) = workdir.glob("features/text-*/*.safetensors")
    written = shard.stat().st_mtime_ns
    trained = extract(*arguments, command=TRAIN)
    assert trained.returncode == 0, trained.stderr
    assert shard.stat().st_mtime_ns == written
    table.write_text("name,label,text\na,sad,今天真高兴\nb,happy,我很难过\n", "utf-8")
    changed = extract(*arguments)
    assert changed.returncode == 1 and "began with other clips" in changed.stderr


@pytest.mark.parametrize("dropped", [0, 1])
def test_corrupted_copies_of_labelled_clips_are_extracted_too(tmp_path, dropped):
    corruptions = "--config.corruptions.training"
    drop = f"drop_probability={dropped}"
    flags = [f"{corruptions}.{flag}" for flag in ("probability=1", "copies=2", "drop=text", drop)]
    done = extract(transcripts(tmp_path / "data"), f"--workdir={tmp_path / 'run'}", *flags)
    assert done.stdout == "text: 2 of 3 clips have it, 256 numbers each; 6 corrupted copies\n", done.stderr
    (folder,) = tmp_path.glob("run/features/text-*")
    assert (
        list(FeatureStore(folder).reasons.values()).count("dropped on purpose") == 4 * dropped
    )  # c has no transcript to drop


@pytest.fixture
def two_hosts(tmp_path):
    """The command on two hosts, in tmp_path / "run", while its socket keeps their port.

    From all but servers of this user that ask to share it, as JAX's does.
    """
    arguments = [transcripts(tmp_path / "data"), f"--workdir={tmp_path / 'run'}", "--distributed"]
    with socket.socket() as reserved, ExitStack() as running:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("", 0))
        cluster = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
        cluster["JAX_COORDINATOR_PORT"] = str(reserved.getsockname()[1])
        hosts = []
        for host in ("0", "1"):
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                env=os.environ | cluster | {"SLURM_PROCID": host, "SLURM_LOCALID": host},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            hosts.append(running.enter_context(process))
            running.callback(process.kill)  # where a test fails
        yield hosts


def test_two_processes_share_the_work(tmp_path, two_hosts):
    workdir = tmp_path / "run"
    ends = [host.communicate() for host in two_hosts]
    assert [host.returncode for host in two_hosts] == [0, 0], ends
    assert [output for output, _ in ends] == ["text: 2 of 3 clips have it, 256 numbers each\n", ""]
    (folder,) = workdir.glob("features/text-*")
    store = FeatureStore(folder)
    assert [path.name for path in store.shards] == ["000-000000.safetensors", "001-000000.safetensors"]
    assert sorted(store.where.values()) == [(0, -1), (0, 0), (1, 0)]  # clips a and c, clip b


def test_when_a_host_is_killed_the_others_end_in_one_line(two_hosts):
    first, second = two_hosts
    for host in (first, second):
        while host.stderr.readline() != "[1/3] data\n":
            assert host.poll() is None
    first.kill()
    _, errors = second.communicate()
    line = "error: another host of --distributed is gone, or never came; "
    assert second.returncode == 6 and errors.splitlines()[-1].startswith(line), errors
    assert [line.startswith("error: ") for line in errors.splitlines()].count(True) == 1
    assert "stack trace" not in errors


def test_usage_errors_are_one_line():
    done = extract()
    assert done.returncode == 2 and done.stderr == "error: --config is missing: try --config=configs/semi.py\n"


def test_the_contract_names_every_model():
    names = "CLIP AttentionFusion Baichuan Bert Dinov2 EmoVCLIP Hubert Siglip WavLM Whisper"
    assert models.__all__ == names.split()
    assert all(isinstance(getattr(models, name), type) for name in models.__all__)
