"""The extract command: what it prints and leaves, and that a second start finds everything done."""

import subprocess
import sys

from mer_jax import models


def extract(*arguments):
    return subprocess.run([sys.executable, "-m", "mer_jax.extract", *arguments], capture_output=True, text=True)


def test_a_folder_of_transcripts(tmp_path):
    root, workdir = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    (root / "clips.csv").write_text("name,label,text\na,happy,今天真高兴\nb,sad,我很难过\nc,sad,\n", "utf-8")
    command = [f"--config=configs/semi.py:folder,root={root},modalities=text", f"--workdir={workdir}"]
    first = extract(*command)
    assert first.returncode == 0, first.stderr
    assert first.stdout == "text: 3 x 256, 2 of 3 clips have it\n"
    (shard,) = workdir.glob("features/text-*/*.safetensors")
    written = shard.stat().st_mtime_ns
    assert extract(*command).stdout == first.stdout
    assert [path.stat().st_mtime_ns for path in workdir.glob("features/text-*/*")] == [written]


def test_usage_errors_are_one_line():
    done = extract()
    assert done.returncode == 2 and done.stderr == "error: --config is missing: try --config=configs/semi.py\n"


def test_the_contract_names_every_model():
    assert models.__all__ == ["CLIP", "AttentionFusion", "Baichuan", "EmoVCLIP", "Hubert"]
    assert all(isinstance(getattr(models, name), type) for name in models.__all__)
