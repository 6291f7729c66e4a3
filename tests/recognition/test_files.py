"""Which files, and which parts of them, an input names."""

import os
from pathlib import Path

import pytest

from mer_jax.data.recording import Window
from mer_jax.recognition.files import File, media
from mer_jax.runtime.errors import DataError


def test_media_of_files_and_folders_in_order(tmp_path):
    for name in ("b.mp4", "a.WAV", "notes.txt", "single.mkv"):
        (tmp_path / name).touch()
    single = str(tmp_path / "single.mkv")
    assert [file.path.name for file in media([single, str(tmp_path)])] == ["single.mkv", "a.WAV", "b.mp4", "single.mkv"]
    (tmp_path / "empty").mkdir()
    for entry, message in (("empty", "no media file in it"), ("gone", "no such file or folder")):
        with pytest.raises(DataError, match=message):
            list(media([str(tmp_path / entry)]))


def test_what_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a:b.mp4", "concat:x.mp4", "#1.mp4", "%03d.mp4", "http:127.0.0.1:8080.mp4", "-", os.fsdecode(b"\xff.mp4")]
    for name in names:
        Path(name).touch()
    assert [str(file.path) for file in media(names)] == names


def test_a_table_says_which_text_and_group_a_file_has(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text('group,file,text\nanna,a.mp4,"hello, you"\n,sub/b.wav,\n', "utf-8")
    assert list(media([str(table)])) == [
        File(tmp_path / "a.mp4", "hello, you", "anna"),
        File(tmp_path / "sub" / "b.wav", "", None),
    ]
    table.write_text("file\nc.mp4\n", "utf-8")
    assert list(media([str(table)])) == [File(tmp_path / "c.mp4")]
    table.write_text("name\nc\n", "utf-8")
    with pytest.raises(DataError, match="no column 'file'; it has name"):
        list(media([str(table)]))


def test_a_table_of_other_systems_and_with_markers_of_what_is_missing(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b c.wav").touch()
    table = tmp_path / "clips.csv"
    table.write_text("file;text;group\nsub\\b c.wav;nan;NaN\nsub/b%20c.wav;None;g\n", "utf-8")
    path = tmp_path / "sub" / "b c.wav"
    assert list(media([str(table)])) == [File(path, "", None), File(path, "None", "g")]


def test_files_of_a_folder_that_are_no_media_are_said(tmp_path, capsys):
    for name in ("a.mp4", "._a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.path.name for file in media([str(tmp_path)])] == ["a.mp4"]
    assert capsys.readouterr().err == f"{tmp_path}: 2 files are no media: ._a.mp4, notes.txt\n"


def test_what_a_file_is_described_by_has_its_content_text_group_and_part(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    file = File(path, "hi", "g")
    before = file.described
    assert file.described == before
    others = [file._replace(text=""), file._replace(group=None), file._replace(window=Window(1.0, 2.0))]
    assert all(other.described != before for other in others)
    path.write_bytes(b"xy")
    assert file.described != before


def test_subfolders_are_searched_and_all_that_is_no_media_is_listed(tmp_path, capsys):
    for name in ("b/two.mp4", "a.mp4", "b/.hidden/three.mp4", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert [str(file.path.relative_to(tmp_path)) for file in media([str(tmp_path)])] == ["a.mp4", "b/two.mp4"]
    assert capsys.readouterr().err == f"{tmp_path}: 2 files are no media: b/.hidden/three.mp4, b/notes.txt\n"
    for number in range(30):
        (tmp_path / f"{number:02d}.jpg").touch()
    list(media([str(tmp_path)]))
    said = capsys.readouterr().err
    assert "32 files are no media: 00.jpg, " in said and "19.jpg and 12 more (10 .jpg, 1 .mp4, 1 .txt)" in said


def test_parts_of_a_recording(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("file,start,end\na.mp4,1.5,4\na.mp4,,\na.mp4,3,\na.mp4,,2\n")
    windows = [file.window for file in media([str(table)])]
    assert windows == [Window(1.5, 4.0), Window(), Window(3.0), Window(0.0, 2.0)]
    named = [file.named for file in media([str(table)])]
    assert [name.get("end", "whole") for name in named] == [4.0, "whole", None, 2.0]


@pytest.mark.parametrize("start, end", [("4", "4"), ("-1", "2"), ("one", ""), ("inf", ""), ("5", "4")])
def test_a_part_that_is_none_is_refused_by_its_row(tmp_path, start, end):
    table = tmp_path / "clips.csv"
    table.write_text(f"file,start,end\na.mp4,1,2\nb.mp4,{start},{end}\n")
    with pytest.raises(DataError, match=r"clips.csv, row 3: start .* are no part: expected seconds, start < end"):
        list(media([str(table)]))


def test_a_table_says_which_modalities_of_a_file_count(tmp_path):
    (tmp_path / "a.mp4").touch()
    table = tmp_path / "t.csv"
    table.write_text("file,text,modalities\na.mp4,hi,image+video\na.mp4,hi,\n")
    some, everything = media([str(table)])
    assert some.hidden == ("speech", "text") and some.text == "" and everything.hidden == () and everything.text == "hi"
    assert some.described != everything._replace(text="").described
    table.write_text("file,modalities\na.mp4,gaze+video\n")
    (gazing,) = media([str(table)], own=["gaze"])
    assert gazing.hidden == ("speech", "image", "text")
    table.write_text("file,modalities\na.mp4,face\n")
    with pytest.raises(DataError, match=r"t\.csv, row 2: unknown modality 'face'; known: speech"):
        list(media([str(table)]))
