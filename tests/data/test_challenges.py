"""Layouts -> clips: splits, hidden labels, rows and files without a partner."""

import numpy as np
import pytest
from mer_jax.data.layouts import COLUMNS, find_crops, read_folder, read_mer

from mer_jax.data.clips import Problem
from mer_jax.runtime.errors import DataError

LABELS = ("neutral", "happy")
OWN_COLUMNS = dict(zip(COLUMNS, COLUMNS, strict=True))


@pytest.fixture
def mer2024(tmp_path):
    for folder, names in {"video-labeled": ["a", "b", "orphan"], "video-unlabeled": ["u", "t"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.mp4").touch()
    (tmp_path / "label-disdim.csv").write_text("name,discrete,valence\na,happy,1\nb,neutral,0\nc,happy,1\n")
    (tmp_path / "label-transcription.csv").write_text("name,chinese,english\na,你好,hi\nt,,\n", "utf-8")
    (tmp_path / "label-test.csv").write_text("name,discrete\nt,happy\nghost,neutral\n")
    (tmp_path / "openface_face" / "a").mkdir(parents=True)
    np.save(tmp_path / "openface_face" / "a" / "a.npy", np.zeros((1, 112, 112, 3), np.uint8))
    return tmp_path


def test_mer2024(mer2024):
    dataset = read_mer(mer2024, "mer2024", LABELS)
    clips = {clip.name: clip for clip in dataset.clips}
    assert [(name, clip.split) for name, clip in clips.items()] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "train"),
        ("ghost", "test"),
        ("t", "test"),
        ("u", "unlabeled"),
    ]
    assert clips["a"].label == "happy" and clips["a"].transcript == "你好" and clips["a"].faces
    assert clips["b"].faces is None and clips["c"].media is None
    assert all(clip.label is None for clip in clips.values() if clip.split != "train")
    assert dataset.truth == {"t": "happy", "ghost": "neutral"}
    assert dataset.counts() == {"train": 3, "unlabeled": 1, "test": 2}
    assert dataset.classes()["test"] == {"neutral": 1, "happy": 1}
    assert set(dataset.problems) == {
        Problem("c", "train", None, "row without a clip"),
        Problem("ghost", "test", None, "row without a clip"),
        Problem("orphan", "none", None, "clip without a row in label-disdim.csv: not used"),
    }


def test_mer2024_takes_a_name_that_is_both_as_labelled(mer2024):
    (mer2024 / "video-unlabeled" / "a.mp4").touch()
    dataset = read_mer(mer2024, "mer2024", LABELS)
    assert [clip.split for clip in dataset.clips if clip.name == "a"] == ["train"]
    assert any(problem.name == "a" and "both" in problem.reason for problem in dataset.problems)


def test_the_baselines_processed_layout(tmp_path):
    for folder in ("video", "features/hubert-UTT", "openface_face/a/a_aligned"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.mp4", "u.mp4", "u.wav"):
        (tmp_path / "video" / name).touch()
    (tmp_path / "label-6way.csv").write_text("name,discrete\na,happy\n")
    (tmp_path / "transcription-merge.csv").write_text("name,chinese,english\na,你好,hi\nelse,好,good\n", "utf-8")
    np.save(tmp_path / "features" / "hubert-UTT" / "u.npy", np.zeros(3))
    dataset = read_mer(tmp_path, "processed", LABELS, {"speech": "hubert-UTT"})
    a, u = dataset.clips
    assert (a.label, a.transcript, a.faces.name) == ("happy", "你好", "a_aligned")
    assert (u.split, u.media.name, list(u.features)) == ("unlabeled", "u.mp4", ["speech"])
    assert [(problem.name, problem.reason) for problem in dataset.problems] == [
        ("u", "two files (u.mp4 is read, u.wav is not)")
    ]
    assert dataset.warnings == ("1 transcripts belong to no clip, 'else' first",)


def test_the_processed_layout_needs_no_media_where_there_are_features(tmp_path):
    (tmp_path / "features" / "hubert").mkdir(parents=True)
    for name in ("a", "c"):
        np.save(tmp_path / "features" / "hubert" / f"{name}.npy", np.zeros(3, np.float32))
    (tmp_path / "label.csv").write_text("name,discrete\na,happy\n", "utf-8")
    (tmp_path / "transcription-mine.csv").write_text("name,chinese\na,hi\n", "utf-8")
    dataset = read_mer(tmp_path, "processed", ("happy", "sad"), {"speech": "hubert"})
    assert [(clip.name, clip.split, clip.transcript) for clip in dataset.clips] == [
        ("a", "train", "hi"),
        ("c", "unlabeled", ""),
    ]
    assert not dataset.problems
    with pytest.raises(DataError, match="none of video, audio"):
        read_mer(tmp_path, "processed", ("happy", "sad"))


def test_crops_of_a_name_with_a_dot_are_its_own(tmp_path):
    faces = tmp_path / "openface_face"
    faces.mkdir()
    (faces / "s01.npy").touch()
    (faces / "s01.e03_aligned").mkdir()
    assert find_crops(tmp_path, "s01.e02") is None
    assert find_crops(tmp_path, "s01") == faces / "s01.npy"
    assert find_crops(tmp_path, "s01.e03") == faces / "s01.e03_aligned"


def test_mer2025_reads_candidates_from_their_csv(tmp_path):
    (tmp_path / "video").mkdir()
    for name in ("a", "u", "other"):
        (tmp_path / "video" / f"{name}.mp4").touch()
    (tmp_path / "track1_train_disdim.csv").write_text("name,discrete,valence\na,happy,1\n")
    (tmp_path / "track_all_candidates.csv").write_text("name\nu\n")
    (tmp_path / "subtitle_chieng.csv").write_text("name,chinese,english\n")
    dataset = read_mer(tmp_path, "mer2025", LABELS)
    assert [(clip.name, clip.split) for clip in dataset.clips] == [("a", "train"), ("u", "unlabeled")]
    assert [problem.name for problem in dataset.problems] == ["other"]


@pytest.mark.parametrize("missing", ["label-disdim.csv", "label-transcription.csv"])
def test_missing_parts_are_named(mer2024, missing):
    (mer2024 / missing).unlink()
    with pytest.raises(DataError, match=missing):
        read_mer(mer2024, "mer2024", LABELS)


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_mer(tmp_path / "none", "mer2024", LABELS)
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
