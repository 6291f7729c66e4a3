"""A challenge's folder -> clips: splits, hidden labels, rows and files without a partner."""

import numpy as np
import pytest

from mer_jax.data.challenges import MER_FILES, read_mer
from mer_jax.data.clips import Problem
from mer_jax.runtime.errors import DataError

LABELS = ("neutral", "happy")


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


def test_of_alternatives_the_first_that_exists_is_read(mer2024):
    (mer2024 / "video-unlabeled-with-test2noise").mkdir()
    (mer2024 / "video-unlabeled-with-test2noise" / "n.mp4").touch()
    names = [clip.name for clip in read_mer(mer2024, "mer2024", LABELS).clips]
    assert names == ["a", "b", "c", "ghost", "n", "t"]


def test_labels_of_candidates_are_for_scoring_alone(mer2024):
    """And those of the test split count before those of the unlabelled one."""
    (mer2024 / "label-unlabeled.csv").write_text("name,discrete\nu,neutral\nt,neutral\na,neutral\n")
    dataset = read_mer(mer2024, "mer2024", LABELS)
    assert dataset.truth == {"u": "neutral", "t": "happy", "ghost": "neutral"}
    assert {clip.name: clip.label for clip in dataset.clips if clip.label} == {
        "a": "happy",
        "b": "neutral",
        "c": "happy",
    }


def test_media_of_labelled_clips_and_of_candidates_lie_apart(mer2024):
    (mer2024 / "video-unlabeled" / "b.mp4").touch()
    (mer2024 / "video-labeled" / "u.mp4").touch()
    media = {clip.name: clip.media for clip in read_mer(mer2024, "mer2024", LABELS).clips}
    assert media["b"] == mer2024 / "video-labeled" / "b.mp4"
    assert media["u"] == mer2024 / "video-unlabeled" / "u.mp4"


def test_a_candidate_that_is_labelled_is_taken_as_labelled(tmp_path):
    (tmp_path / "video").mkdir()
    (tmp_path / "track1_train.csv").write_text("name,discrete\na,happy\n")
    (tmp_path / "track1_track2_candidate.csv").write_text("name\na\nu\n")
    (tmp_path / "subtitle_chieng.csv").write_text("name,chinese\n")
    dataset = read_mer(tmp_path, "mer2026", LABELS)
    assert [(clip.name, clip.split, clip.label) for clip in dataset.clips] == [
        ("a", "train", "happy"),
        ("u", "unlabeled", None),
    ]
    reason = "both labelled and a candidate, taken as labelled (track1_track2_candidate.csv)"
    assert Problem("a", "train", None, reason) in dataset.problems
    assert dataset.name == "mer2026" and dataset.warnings == MER_FILES["mer2026"].warnings != ()


def test_tables_and_media_of_one_clip_meet_however_each_writes_its_name(tmp_path):
    for folder, name in (
        ("video-labeled", "a"),
        ("video-labeled", "e\u0301"),
        ("video-unlabeled", "t"),
        ("video-unlabeled", "u"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.mp4").touch()
    (tmp_path / "label-disdim.csv").write_text("name,discrete\na.mp4,happy\né,neutral\n", "utf-8")
    (tmp_path / "label-transcription.csv").write_text("name,chinese\na,hi\ne\u0301.mp4,ho\nt,nan\nu.wav,yes\n", "utf-8")
    (tmp_path / "label-test.csv").write_text("name,discrete\nt.mp4,happy\n")
    (tmp_path / "label-unlabeled.csv").write_text("name,discrete\nu.mp4,neutral\n")
    dataset = read_mer(tmp_path, "mer2024", LABELS)
    assert [(clip.name, clip.split, clip.label, clip.transcript, clip.media.stem) for clip in dataset.clips] == [
        ("a.mp4", "train", "happy", "hi", "a"),
        ("é", "train", "neutral", "ho", "e\u0301"),
        ("t.mp4", "test", None, "", "t"),
        ("u", "unlabeled", None, "yes", "u"),
    ]
    assert dataset.truth == {"t.mp4": "happy", "u": "neutral"} and not dataset.warnings
    assert dataset.problems == (Problem("t", "none", "text", "no text: a marker of what is missing ('nan')"),)


def test_labelled_media_that_match_no_row_stop_at_once(mer2024):
    (mer2024 / "label-disdim.csv").write_text("name,discrete\nclip_a,happy\nclip_b,neutral\n")
    with pytest.raises(DataError, match=r"video-labeled: none of its 3 media .* in label-disdim.csv and '.*\.mp4'"):
        read_mer(mer2024, "mer2024", LABELS)
