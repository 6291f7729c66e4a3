"""Subtitles in the usual formats, and what of them belongs to a window."""

import pytest

from mer_jax.data.recording import Window
from mer_jax.recognition.subtitles import Cue, Subtitles, beside, read_subtitles
from mer_jax.runtime.errors import DataError

SRT = """1\r
00:00:01,500 --> 00:00:03,000\r
<i>Hello</i>\r
you\r
\r
2\r
01:00:04,000 --> 01:00:05,250\r
{\\an8}再见\r
"""
VTT = """WEBVTT

NOTE a comment

00:01.500 --> 00:03.000 align:start
<v Anna>Hello &amp; you</v>

01:00:04.000 --> 01:00:05.250
再见
"""


@pytest.mark.parametrize("name, content, first", [("a.srt", SRT, "Hello you"), ("a.vtt", VTT, "Hello & you")])
def test_lines_have_their_times_and_no_markup(tmp_path, name, content, first):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_subtitles(path).cues == (Cue(1.5, 3.0, first), Cue(3604.0, 3605.25, "再见"))


def test_a_text_has_no_times_and_other_files_must_have_some(tmp_path):
    (tmp_path / "a.txt").write_text("What was said.\n", "utf-8")
    assert read_subtitles(tmp_path / "a.txt") == Subtitles(text="What was said.")
    (tmp_path / "a.srt").write_text("What was said.\n", "utf-8")
    with pytest.raises(DataError, match=r"a.srt: no subtitles in it: expected lines like"):
        read_subtitles(tmp_path / "a.srt")
    with pytest.raises(DataError, match=r"gone.srt: cannot be read"):
        read_subtitles(tmp_path / "gone.srt")


def test_a_window_has_the_lines_of_which_it_holds_the_larger_part_or_a_second():
    subtitles = Subtitles((Cue(0.0, 1.0, "a"), Cue(1.0, 2.0, "b"), Cue(2.0, 12.0, "c")))
    assert subtitles.said_in(Window(0.6, 2.9)) == "b"
    assert subtitles.said_in(Window(0.4, 3.0)) == "a b c"
    assert subtitles.said_in(Window(12.0, 14.0)) == ""


def test_subtitles_beside_a_recording_are_those_of_its_name(tmp_path):
    assert beside(tmp_path / "a.mp4") is None
    for name in ("a.txt", "a.vtt", "b.srt"):
        (tmp_path / name).touch()
    assert beside(tmp_path / "a.mp4") == tmp_path / "a.vtt"
