"""What a trial has come to, from what its start printed."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.damage import RIGHT, WAYS, damage, kind_of, other_file, outcome

NAME = Path("self_training/round-01.json")
NAMED = "  run/self_training/round-01.json: not as it was written: made again\n"
REFUSED = "error: run/self_training/round-01.json: not as it was written; start again\n"


@pytest.mark.parametrize(
    ("code", "output", "same", "expected"),
    [
        (0, NAMED, True, "named, and made again"),
        (0, NAMED, False, "named, and other results"),
        (0, "", True, "same results, not read"),
        (0, "see self_training/round-01.json", False, "used in silence"),
        (1, REFUSED, False, "refused in one line"),
        (1, REFUSED + REFUSED, False, "refused, and not named"),
        (1, "error: something is wrong\n", False, "refused, and not named"),
        (1, "Traceback (most recent call last)\n" + REFUSED, False, "traceback"),
    ],
)
def test_outcomes(code, output, same, expected):
    assert outcome(code, output, NAME, same) == expected
    assert (expected in RIGHT) == (
        expected in ("named, and made again", "same results, not read", "refused in one line")
    )


def test_checkpoints_and_records_are_named_as_a_whole():
    said = "  run/checkpoints/tuning/1: not as it was written: made again"
    assert outcome(0, said, Path("checkpoints/tuning/1/ocdbt/d/0"), True) == "named, and made again"
    said = "error: set/mer/x/1.0.0: record 3 of its train split cannot be read; remove that folder"
    assert outcome(1, said, Path("mer/x/1.0.0/mer-train.array_record-0-of-1"), False) == "refused in one line"


def test_every_way_changes_a_file_and_nothing_else(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    other.write_bytes(b"other")
    for way in WAYS:
        path.write_bytes(b"content")
        damage(path, way, other, np.random.default_rng(0))
        assert path.read_bytes() != b"content" and other.read_bytes() == b"other"
    assert len(path.read_bytes()) == 5


def test_kinds_and_the_file_of_another_run(tmp_path):
    assert kind_of(Path("features/text-0123456789ab/000-000001.safetensors")) == "features/*.safetensors"
    assert kind_of(Path("checkpoints/tuning/1/d/0f")) == "checkpoints/tuning"
    assert kind_of(Path("config.json")) == "config.json"
    theirs = tmp_path / "features" / "text-ba9876543210" / "000-000001.safetensors"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    assert other_file(tmp_path, Path("features/text-0123456789ab/000-000001.safetensors")) == theirs
    assert not other_file(tmp_path, Path("config.json")).exists()
