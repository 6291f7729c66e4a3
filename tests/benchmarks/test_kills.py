"""A command that is interrupted in each way ends with the bytes of an undisturbed one: the benchmark, small."""

import numpy as np
import pytest

from benchmarks import kills


@pytest.fixture
def text_only(tmp_path, monkeypatch):
    """Two places for a data set of a few transcripts."""
    (tmp_path / "data").mkdir()
    rows = [f"c{i},{('happy', 'sad')[i % 2]},今天真高兴{i}" for i in range(6)]
    (tmp_path / "data" / "clips.csv").write_text("\n".join(["name,label,text", *rows]), "utf-8")
    config = f"--config=configs/semi.py:folder,encoders=bundled,root={tmp_path}/data,modalities=text"
    monkeypatch.setattr(kills, "CONFIG", [config, "--config.extraction.shard_clips=2"])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(kills.tempfile, "tempdir", str(tmp_path / "temporary"))
    return tuple(kills.Place(folder, tmp_path, "", "") for folder in (tmp_path / "whole", tmp_path / "disk" / "run"))


def test_extract(text_only):
    kinds = ["killed", "file limit"]
    rows, wrong = kills.interrupt("extract", kinds, text_only, np.random.default_rng(0))
    assert [row["kind"] for row in rows] == kinds and not wrong
    assert all(row["as it should"] for row in rows), rows


def test_what_is_wrong_in_the_end_is_said(text_only, monkeypatch):
    """Of a command that leaves other bytes in each folder, half a file and a temporary one."""

    def leaving(command, place):
        lines = ["import pathlib, tempfile", f"folder = pathlib.Path({str(place.folder)!r})", "folder.mkdir()"]
        lines += ["(folder / 'a').write_text(str(folder))", "(folder / '.b.tmp').touch()", "tempfile.mkstemp()"]
        return ["timeit", "-n1", "-r1", "; ".join(lines)]

    monkeypatch.setattr(kills, "arguments", leaving)
    _, wrong = kills.interrupt("leaving", [], text_only, np.random.default_rng(0))
    assert wrong[:2] == ["differs: a", f"left: {text_only[1].folder}/.b.tmp"] and len(wrong) == 4
