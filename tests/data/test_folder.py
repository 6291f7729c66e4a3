"""Anyone's folder -> clips: splits, hidden labels, columns by other names, rows that cannot be taken as they are."""

import numpy as np
import pytest

from mer_jax.data.clips import Problem
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.runtime.errors import DataError

OWN_COLUMNS = dict(zip(COLUMNS, COLUMNS, strict=True))


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none", OWN_COLUMNS, {})


def test_folder(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.flac").touch()
    (tmp_path / "features" / "au").mkdir(parents=True)
    np.save(tmp_path / "features" / "au" / "b.npy", np.zeros(3))
    (tmp_path / "clips.csv").write_text(
        "name,emotion,split,actor,text\na,glad,,one,hi\nb,,,,\nc,low,test,two,\nd,low,,two,\n", "utf-8"
    )
    columns = {**OWN_COLUMNS, "label": "emotion", "group": "actor"}
    dataset = read_folder(tmp_path, columns, {"image": "au"})
    a, b, c, _ = dataset.clips
    assert dataset.labels == ("glad", "low")
    assert (a.split, a.label, a.group, a.transcript, a.media.name) == ("train", "glad", "one", "hi", "a.flac")
    assert (b.split, b.label, b.group) == ("unlabeled", None, None) and b.features["image"].name == "b.npy"
    assert (c.split, c.label, dataset.truth) == ("test", None, {"c": "low"})
    assert [problem.name for problem in dataset.problems] == ["c", "d"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,label\na,x\nb,x\n", "holds 1 labels"),
        ("name,other\na,x\n", "no column 'label'"),
        ("name,label,split\na,x,dev\nb,y,train\n", "unknown split 'dev'"),
    ],
)
def test_folder_errors(tmp_path, rows, message):
    (tmp_path / "clips.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path, OWN_COLUMNS, {})


@pytest.mark.parametrize("column", ["split", "group", "text", "file"])
def test_a_column_that_was_asked_for_must_exist(tmp_path, column):
    (tmp_path / "clips.csv").write_text("name,label\na,x\nb,y\n")
    with pytest.raises(DataError, match="no column 'speakr'; it has name, label"):
        read_folder(tmp_path, {**OWN_COLUMNS, column: "speakr"}, {})


def test_folder_rows_that_cannot_be_taken_as_they_are(tmp_path):
    (tmp_path / "clips.csv").write_text("name,label,split\na,x,\nb,y,\na,y,\nc,,train\n")
    dataset = read_folder(tmp_path, OWN_COLUMNS, {})
    assert [(clip.name, clip.split, clip.label) for clip in dataset.clips] == [
        ("a", "train", "x"),
        ("b", "train", "y"),
        ("c", "unlabeled", None),
    ]
    reasons = {(problem.name, problem.reason) for problem in dataset.problems}
    assert ("c", "in the train split without a label: taken as unlabeled") in reasons
    assert any(name == "a" and "stands twice" in reason for name, reason in reasons)


def test_folder_features_that_are_not_there(tmp_path):
    (tmp_path / "clips.csv").write_text("name,label\na,x\nb,y\n")
    with pytest.raises(DataError, match="ready-made features"):
        read_folder(tmp_path, OWN_COLUMNS, {"speech": "none"})


def test_a_row_may_say_where_its_media_lie(tmp_path):
    for folder in ("media", "elsewhere"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            (tmp_path / folder / f"{name}.mp4").touch()
    (tmp_path / "clips.csv").write_text("name,label,file\na,x,elsewhere/b.mp4\nb,y,\nc,y,elsewhere/gone.mp4\n")
    dataset = read_folder(tmp_path, OWN_COLUMNS, {})
    a, b, c = dataset.clips
    assert (a.media, b.media, c.media) == (tmp_path / "elsewhere" / "b.mp4", tmp_path / "media" / "b.mp4", None)
    assert dataset.problems == (
        Problem("c", "train", None, "row without a clip"),
        Problem("a", "none", None, "clip without a row in clips.csv: not used"),
    )
    assert dataset.name == tmp_path.name and not dataset.truth
