"""What a data set keeps of its clips beside its tables, and what belongs to no clip."""

import os
from pathlib import Path

import pytest

from mer_jax.data.clip_files import MEDIA_SUFFIXES, ClipFiles, key_of, media_files, media_of_name
from mer_jax.data.clips import Clip, Problem


def test_crops_of_a_name_with_a_dot_are_its_own(tmp_path):
    faces = tmp_path / "openface_face"
    faces.mkdir()
    (faces / "s01.npy").touch()
    (faces / "s01.e03_aligned").mkdir()
    files = ClipFiles(tmp_path, {})
    assert files.crops("s01.e02") is None
    assert files.crops("s01") == faces / "s01.npy"
    assert files.crops("s01.e03") == faces / "s01.e03_aligned"


def test_of_a_clips_crops_the_first_place_counts(tmp_path):
    faces, files = tmp_path / "openface_face", ClipFiles(tmp_path, {})
    places = [faces / "a_aligned", faces / "a" / "a_aligned", faces / "a.npy", faces / "a" / "a.npy"]
    for place in places:
        place.mkdir(parents=True)
        assert files.crops("a") == place


def test_features_are_found_by_modality(tmp_path):
    for folder, name in (("hubert", "a"), ("clip", "a"), ("clip", "b")):
        (tmp_path / "features" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "features" / folder / f"{name}.npy").touch()
    files = ClipFiles(tmp_path, {"speech": "hubert", "image": "clip"})
    a, b = (files.complete(Clip(name, "train", label="x")) for name in ("a", "b"))
    assert a.features == {"speech": tmp_path / "features/hubert/a.npy", "image": tmp_path / "features/clip/a.npy"}
    assert b.features == {"image": tmp_path / "features/clip/b.npy"}
    assert (a.label, a.faces) == ("x", None)
    assert files.featured_names() == {"a", "b"}


def test_of_two_media_files_the_first_video_is_read(tmp_path):
    for name in ("a.wav", "a.mp4", "a.MKV", "a.txt", "b.flac", "c", "d.aac", "d.webm"):
        (tmp_path / name).touch()
    problems = []
    files = media_files(tmp_path, problems)
    assert files == {"a": tmp_path / "a.MKV", "b": tmp_path / "b.flac", "d": tmp_path / "d.webm"}
    assert problems == [
        Problem("a", "none", None, "two files (a.MKV is read, a.mp4 is not)"),
        Problem("a", "none", None, "two files (a.MKV is read, a.wav is not)"),
        Problem("d", "none", None, "two files (d.webm is read, d.aac is not)"),
    ]
    assert media_files(tmp_path / "missing", problems) == {} and len(problems) == 3


def test_what_has_no_partner_is_named(tmp_path):
    for name in ("a.npy", "stray_aligned", "orphan.npy"):
        (tmp_path / "openface_face" / name).mkdir(parents=True)
    clips = [
        Clip("a", "train"),
        Clip("b", "test", features={"image": Path("b.npy")}),
        Clip("c", "unlabeled", media=Path("c.mp4")),
    ]
    assert ClipFiles(tmp_path, {}).problems(clips, ["orphan"], "t.csv") == [
        Problem("a", "train", None, "row without a clip"),
        Problem("orphan", "none", None, "clip without a row in t.csv: not used"),
        Problem("stray", "none", "image", "face crops without a clip: not used"),
    ]


def test_media_are_what_ffmpeg_opens_and_nothing_else(tmp_path):
    media = ("amr", "m2ts", "MTS", "ogv", "oga", "gif", "3gp", "wmv", "mpg", "vob", "mxf", "opus", "aiff", "caf", "ac3")
    others = ("srt", "txt", "csv", "json", "npy", "jpg", "png", "m3u8", "mpd", "sdp", "vtt", "ass", "part", "DS_Store")
    for number, suffix in enumerate([*media, *others]):
        (tmp_path / f"{number}.{suffix}").touch()
    assert sorted(media_files(tmp_path, []), key=int) == [str(number) for number in range(len(media))]
    assert len(set(MEDIA_SUFFIXES)) == len(MEDIA_SUFFIXES)


def test_a_name_that_is_no_utf_8_can_be_written(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    (tmp_path / os.fsdecode(b"\xff.wav")).touch()
    problems = []
    assert media_files(tmp_path, problems) == {r"\xff": tmp_path / os.fsdecode(b"\xff.mp4")}
    assert problems[0].reason == r"two files (\xff.mp4 is read, \xff.wav is not)"


@pytest.mark.parametrize(
    ("name", "key"),
    [("a", "a"), ("a.mp4", "a"), ("a.MP4", "a"), ("S01.E02", "S01.E02"), (".mp4", ".mp4"), ("e\u0301.wav", "é")],
)
def test_what_stands_for_a_clip(name, key):
    assert key_of(name) == key


def test_a_name_is_a_files_whole_before_it_loses_a_suffix(tmp_path):
    for name in ("a.ts.mp4", "a.mp4", "._a.mkv"):
        (tmp_path / name).touch()
    media = media_files(tmp_path, problems := [])
    assert not problems and set(media) == {"a", "a.ts"}
    assert media_of_name(media, "a.ts").name == "a.ts.mp4"
    assert media_of_name(media, "a.mkv").name == "a.mp4"
    assert media_of_name(media, "b") is None


def test_crops_and_features_of_names_with_a_suffix(tmp_path):
    (tmp_path / "openface_face" / "a_aligned").mkdir(parents=True)
    (tmp_path / "openface_face" / ".hidden").touch()
    (tmp_path / "features" / "au").mkdir(parents=True)
    for name in ("a", "._a"):
        (tmp_path / "features" / "au" / f"{name}.npy").touch()
    files = ClipFiles(tmp_path, {"image": "au"})
    clip = files.complete(Clip("a.mp4", "train"))
    assert (clip.faces.name, clip.features["image"].name) == ("a_aligned", "a.npy")
    assert files.featured_names() == {"a"} and files.problems([clip], [], "t.csv") == []
