"""Anyone's folder -> clips: splits, hidden labels, columns by other names, rows that cannot be taken as they are."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.check import report
from mer_jax.data.clips import NOT_VALID, Problem
from mer_jax.data.dataset import FolderData, open_dataset
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
        ("name,label,split\na,x,dev\nb,y,train\n", "row 2: unknown split 'dev'; expected .*; write train: folds of it"),
        ("name,label,split\na,x,Val\nb,y,train\n", "unknown split 'Val'; .*; write train"),
        ("name,label,split\na,x,rest\nb,y,train\n", "unknown split 'rest'; expected train, unlabeled, test$"),
        ("name,label\na,x\nb,X\nc,NaN\n", "holds 1 labels"),
        ("name,label,text,text\na,x,,\nb,y,,\n", "'text' stands twice"),
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
        Problem("c", "train", None, f"row without a clip (no file {tmp_path / 'elsewhere' / 'gone.mp4'})"),
        Problem("a", "none", None, "clip without a row in clips.csv: not used"),
    )
    assert dataset.name == tmp_path.name and not dataset.truth


def folder(root, rows, *files):
    """A folder data set of empty files."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "clips.csv").write_text(rows, "utf-8")
    return read_folder(root, OWN_COLUMNS, {})


def test_names_with_their_files_suffix_meet_them_and_stay_as_they_are_written(tmp_path):
    rows = "name,label\na.mp4,x\nb.MOV,y\nS01.E02,x\nc,y\n"
    dataset = folder(tmp_path, rows, *(f"media/{name}.mp4" for name in ("a", "b", "c", "S01.E02", "S01")))
    assert [clip.name for clip in dataset.clips] == ["a.mp4", "b.MOV", "S01.E02", "c"]
    assert [clip.media.name for clip in dataset.clips] == ["a.mp4", "b.mp4", "S01.E02.mp4", "c.mp4"]
    assert [problem.name for problem in dataset.problems] == ["S01"]


@pytest.mark.parametrize(("row", "file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_meet_in_either_normal_form(tmp_path, row, file):
    written, lying = (unicodedata.normalize(form, "né 한") for form in (row, file))
    dataset = folder(
        tmp_path, f"name,label\n{written},x\nb,y\n", f"media/{lying}.mp4", "media/b.mp4", f"openface_face/{lying}.npy"
    )
    clip = dataset.clips[0]
    assert clip.name == written and not dataset.problems
    assert (clip.media.name, clip.faces.name) == (f"{lying}.mp4", f"{lying}.npy")


def test_markers_of_what_is_missing_are_no_label_group_split_file_or_text(tmp_path):
    rows = "name,label,split,group,text,file\na,x,,NaN,nan,\nb,y,Test,g,None,NA\nc,N/A,null,g,,\nd,x,,-,,\n"
    dataset = folder(tmp_path, rows)
    assert dataset.labels == ("x", "y")
    assert [(clip.split, clip.label, clip.group, clip.transcript) for clip in dataset.clips] == [
        ("train", "x", None, ""),
        ("test", None, "g", "None"),  # which people say
        ("unlabeled", None, "g", ""),
        ("train", "x", None, ""),
    ]
    said = [(problem.name, problem.reason) for problem in dataset.problems if "marker" in problem.reason]
    assert ("c", "no label: a marker of what is missing (clips.csv, row 4: 'N/A')") in said
    assert [name for name, _ in said] == ["a", "a", "b", "c", "c", "d"]


def test_none_in_small_letters_is_a_label_and_said_to_be_one(tmp_path):
    dataset = folder(tmp_path, "name,label\na,none\nb,happy\n")
    assert dataset.labels == ("happy", "none")
    assert "'none' is taken as a label like any other" in dataset.warnings[0]


def test_of_one_label_in_two_spellings_the_rarer_is_none(tmp_path):
    dataset = folder(tmp_path, "name,label,split\na,happy,\nb,Happy,train\nc,happy,\nd,sad,\ne,HAPPY,test\n")
    assert dataset.labels == ("happy", "sad") and not dataset.truth
    assert [clip.label for clip in dataset.clips] == ["happy", None, "happy", "sad", None]
    assert [clip.split for clip in dataset.clips] == ["train", "unlabeled", "train", "train", "test"]
    of_b = "(clips.csv, row 3: 'Happy' in 1 rows, 'happy' in 2 rows)"
    assert Problem("b", "none", None, f"one label in two spellings, the rarer is taken as no label {of_b}") in (
        dataset.problems
    )
    spelt = [warning.partition("no label: ")[2] for warning in dataset.warnings]
    assert spelt == [f"'{rarer}' in 1 rows, 'happy' in 2 rows; write one" for rarer in ("Happy", "HAPPY")]


def test_media_that_match_no_row_stop_at_once(tmp_path):
    with pytest.raises(
        DataError, match=r"none of its 2 media files .* as '1' in clips.csv and '00001.mp4' in media do"
    ):
        folder(tmp_path, "name,label\n1,x\n2,y\n", "media/00001.mp4", "media/00002.mp4")


def test_names_that_seem_to_differ_are_said_with_an_example_of_both(tmp_path):
    whole = [f"media/{i}.mp4" for i in range(3)]
    dataset = folder(tmp_path, "name,label\n0,x\n1,y\n2,x\nclip_7,y\n", *whole, "media/clip7.mp4")
    assert dataset.warnings == (
        "rows without media: 1, media without a row: 1; "
        "do the names differ, as 'clip_7' in clips.csv and 'clip7.mp4' in media do?",
    )
    dataset = folder(tmp_path, "name,label\n0,x\n1,y\n2,x\nclip7,y\n3,x\n")  # a row alone is no mismatch
    assert dataset.warnings == ()


def test_what_is_no_media_is_said_in_one_line(tmp_path):
    files = ("media/a.mp4", "media/._a.mp4", "media/.DS_Store", "media/notes.txt", "media/z.txt")
    dataset = folder(tmp_path, "name,label\na,x\nb,y\n", *files)
    reason = "files beside the media (4 files are no media: .DS_Store, ._a.mp4, notes.txt, ...)"
    assert Problem("media", "none", None, reason) in dataset.problems
    assert dataset.clips[0].media.name == "a.mp4"


@pytest.mark.parametrize("cell", ["in\\a b.mp4", "in/a%20b.mp4", "in/a b.mp4"])
def test_a_file_may_be_written_as_other_systems_do(tmp_path, cell):
    dataset = folder(tmp_path, f"name,label,file\na,x,{cell}\nb,y,\n", "in/a b.mp4")
    assert dataset.clips[0].media == tmp_path / "in" / "a b.mp4"


def test_a_column_says_which_modalities_of_a_clip_count(tmp_path):
    (tmp_path / "features" / "au").mkdir(parents=True)
    for name in "abc":
        np.save(tmp_path / "features" / "au" / f"{name}.npy", np.ones(3))
    rows = "name,label,split,text,heard\na,x,,hi,image + text\nb,y,,hi,all\nc,,test,hi,video\nd,,test,hi,\n"
    (tmp_path / "clips.csv").write_text(rows)
    settings = FolderData(root=str(tmp_path), image_feature="au", modalities_column="heard")
    dataset = open_dataset("folder", settings)
    a, b, c, d = dataset.clips
    assert a.modalities == ("image", "text") and a.hides("speech") and a.transcript == "hi" and not a.hides("image")
    assert b.modalities is None and d.modalities is None
    assert (c.transcript, c.no_transcript, c.no_faces, c.hides("image")) == ("", NOT_VALID, NOT_VALID, True)
    assert dataset.candidate_modalities is None  # all count for d
    assert dataset.not_valid() == {
        "speech": {"train": 1, "test": 1},
        "image": {"test": 1},
        "text": {"test": 1},
        "video": {"train": 1},
    }
    listed = report(dataset, [])
    assert f"      2 x speech: {NOT_VALID}" in listed and not any("empty transcript" in line for line in listed)
    limited = open_dataset("folder", replace(settings, candidate_modalities="image+video"))
    assert [clip.modalities for clip in limited.clips] == [a.modalities, None, ("video",), ("image", "video")]
    assert limited.candidate_modalities == ("video", "image")


def test_cells_of_modalities_are_read_in_any_case_and_without_such_a_column(tmp_path):
    rows = "name,label,modalities,\na,x,None,1\nb,y,ALL,2\nc,x,nan,3\nd,y,,4\n"
    (tmp_path / "clips.csv").write_text(rows)
    dataset = open_dataset("folder", FolderData(root=str(tmp_path)))
    assert [clip.modalities for clip in dataset.clips] == [(), None, None, None]
    assert not any("marker" in problem.reason for problem in dataset.problems)
    without = open_dataset("folder", FolderData(root=str(tmp_path), modalities_column=""))
    assert [clip.modalities for clip in without.clips] == [None] * 4 and without.digest != dataset.digest


def test_an_unknown_modality_is_refused_by_its_row(tmp_path):
    (tmp_path / "clips.csv").write_text("name,label,modalities\na,x,image\nb,y,image+face\n")
    with pytest.raises(
        DataError, match=r"clips.csv, row 3: unknown modality 'face'; known: speech\+image\+text\+video"
    ):
        read_folder(tmp_path, OWN_COLUMNS, {})
    columns = {**OWN_COLUMNS, "modalities": ""}
    assert all(clip.modalities is None for clip in read_folder(tmp_path, columns, {}).clips)
