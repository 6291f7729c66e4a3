"""The command that looks a data set over, shows its faces and makes records of it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mer_jax.data import builder
from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.dataset import FolderData
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.prepared import prepared_sources
from mer_jax.data.records import RecordSettings
from mer_jax.settings import Settings
from tests.commands import import_command

module = import_command("prepare")
EXTRACTION = ExtractionSettings(workers=1)


def test_the_check_names_what_is_wrong_with_a_file(tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no media")
    clips = (Clip("a", "train", media=tmp_path / "broken.mp4", label="x"), Clip("b", "test"))
    module.print_check(Dataset("toy", ("x", "y"), clips, {}), EXTRACTION)
    printed = capsys.readouterr().out
    assert printed.startswith("toy: 2 clips\n")
    assert "1 x clip: cannot decode" in printed and printed.endswith("a, train\n")


def test_the_preview_says_what_it_shows(tmp_path, capsys):
    """Crops that a clip brings, the first of as many clips as were asked for."""
    np.save(tmp_path / "crops.npy", np.full((3, 8, 8, 3), (10, 20, 30), np.uint8))
    clips = tuple(Clip(str(i), "train", label="x", faces=tmp_path / "crops.npy") for i in range(3))
    dataset = Dataset("toy", ("x", "y"), clips, {})
    module.preview(dataset, EXTRACTION, tmp_path / "sheet.png", 2)
    assert capsys.readouterr().out == "0: 3 crops\n2: 3 crops\n"
    assert (np.asarray(Image.open(tmp_path / "sheet.png")) == [30, 20, 10]).all(-1).any()  # BGR on disk


@pytest.mark.parametrize(
    ("name", "expected"), [("MER 2024 (Chinese)", "MER_2024_Chinese"), ("好", "好"), ("--", "clips")]
)
def test_records_are_made_under_the_data_sets_name(tmp_path, monkeypatch, capsys, name, expected):
    asked = []

    class Mer:
        def __init__(self, name, dataset, records, output, advance):
            asked.extend((name, dataset, records, output))

        def build(self, root, beam_runner):
            asked.extend((root, beam_runner))
            return tmp_path / "made"

    monkeypatch.setattr(builder, "Mer", Mer)
    dataset = Dataset(name, ("x", "y"), (Clip("a", "train", label="x"),), {})
    settings = Settings(variant="folder", data=FolderData(root=str(tmp_path)), extraction=EXTRACTION)
    module.prepare(dataset, settings, tmp_path / "out", "DirectRunner")
    made, prepared, *rest = asked
    assert made == expected and prepared is dataset
    assert rest == [RecordSettings(settings.prepare, EXTRACTION), tmp_path / "out", tmp_path, "DirectRunner"]
    assert capsys.readouterr().out == f"{tmp_path / 'made'}\n"
    assert prepared_sources(tmp_path / "made")["speech"] == settings.encoders.speech.source
    assert (tmp_path / "out" / ".lock").exists()  # one process at a time prepares there


def test_a_command_that_would_do_nothing_says_what_it_can():
    command = [sys.executable, "-m", "mer_jax.prepare", "--config=configs/semi.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    message = "error: nothing to do: give --check, --preview=PNG or --output=DIR\n"
    assert (done.returncode, done.stderr) == (2, message)
