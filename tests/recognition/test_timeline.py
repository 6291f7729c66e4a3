"""Windows over a recording, and the csv and the page that they become."""

import csv
import json
import re

import numpy as np
import pytest

from mer_jax.data.clips import Absent
from mer_jax.data.recording import Window
from mer_jax.recognition import timeline as module
from mer_jax.recognition.files import File
from mer_jax.recognition.subtitles import Cue, Subtitles
from mer_jax.recognition.timeline import Moment, page, recognised, scenes, windows_of, write_timeline
from mer_jax.runtime.errors import DataError
from tests.data.media_files import write_video

LABELS = ("calm", "glad</script>")


def line(start, share, **more):
    probabilities = dict(zip(LABELS, (share, 1 - share), strict=True))
    label = max(probabilities, key=probabilities.get)
    known = {"label": label, "probabilities": probabilities, "used": ["speech"], "absent": {"text": "no transcript"}}
    return {"file": "a.wav", "start": start, "end": start + 5.0, **known, **more}


MOMENTS = [
    Moment(line(0.0, 0.9), b"jpeg"),
    Moment(line(2.5, 0.7), b""),
    Moment({"file": "a.wav", "start": 5.0, "end": 10.0, "error": "nothing in it can be used", "absent": {}}, b""),
    Moment(line(7.5, 0.2, warning="unlike"), b""),
]


@pytest.mark.parametrize(
    "seconds, starts",
    [(3.0, [0.0]), (5.0, [0.0]), (5.1, [0.0, 2.5]), (10.0, [0.0, 2.5, 5.0]), (10.5, [0, 2.5, 5, 7.5])],
)
def test_windows_hold_all_of_a_recording(monkeypatch, tmp_path, seconds, starts):
    monkeypatch.setattr(module, "seconds_of", lambda path: seconds)
    assert windows_of(File(tmp_path), 5.0, 2.5) == [Window(start, start + 5.0) for start in starts]


def test_of_a_part_the_windows_lie_in_it(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "seconds_of", lambda path: 100.0)
    windows = windows_of(File(tmp_path, window=Window(50.0, 57.0)), 5.0, 2.0)
    assert windows == [Window(50.0, 55.0), Window(52.0, 57.0)]


def test_a_recording_without_a_length_or_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_text("no media")
    with pytest.raises(DataError, match=r"a.mp4: cannot decode"):
        windows_of(File(tmp_path / "a.mp4"), 5.0, 2.5)
    write_video(tmp_path / "b.h264", np.zeros((8, 64, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"b.h264: does not say how long it is"):
        windows_of(File(tmp_path / "b.h264"), 5.0, 2.5)


def test_each_window_has_its_own_line_face_and_subtitles(monkeypatch, tmp_path):
    """Contents are read ahead: faces must not go to other windows."""
    contents = [{"image": np.full((3, 8, 8, 3), 80, np.uint8)}, Absent("crashed"), {"image": Absent("no face")}]
    monkeypatch.setattr(module, "read_recording", lambda *_: iter(contents))

    class Fake:
        audio_track, extraction = "", None
        detector = type("", (), {"find": None})

        def wanted(self, most_faces):
            assert most_faces == 16

        def shards(self, files, contents, size):
            everything = list(contents)
            assert [file.text for file in files] == ["hi", "", "ho"] and len(everything) == 3
            yield [{"label": "a"}, {"label": "b"}]
            yield [{"label": "c"}]

    windows = [Window(0.0, 2.0), Window(2.0, 4.0), Window(4.0, 6.0)]
    subtitles = Subtitles((Cue(0.5, 1.5, "hi"), Cue(4.0, 5.0, "ho")))
    first, second = recognised(Fake(), File(tmp_path / "a.mp4"), windows, subtitles)
    assert [moment.line["label"] for moment in (*first, *second)] == ["a", "b", "c"]
    assert first[0].face.startswith(b"\xff\xd8") and not first[1].face and not second[0].face


def test_scenes_are_stretches_of_one_label_with_what_is_said_in_them():
    subtitles = Subtitles((Cue(1.0, 2.0, "one"), Cue(5.5, 6.0, "two"), Cue(100.0, 101.0, "late")))
    first, nothing, last = scenes(MOMENTS, subtitles, dict.fromkeys(LABELS, "#000"))
    assert (first["start"], first["end"], first["label"], first["confidence"]) == (0.0, 5.0, "calm", 0.9)
    assert nothing["label"] == "nothing to go by" and nothing["confidence"] is None
    assert last["end"] == 12.5 and first["face"] and not last["face"]
    said = [[cue.text for cue in scene["said"]] for scene in (first, nothing, last)]
    assert said == [["one"], ["two"], ["late"]]


def test_a_csv_and_a_page_that_plays_the_recording_from_where_it_lies(tmp_path):
    (tmp_path / "my talks").mkdir()
    recording = tmp_path / "my talks" / "a#1.wav"
    write_timeline(tmp_path / "out" / "a.html", recording, MOMENTS, Subtitles(), LABELS)
    with open(tmp_path / "out" / "a.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["calm", "calm", "", "glad</script>"]
    assert [row["start"] for row in rows] == ["0", "2.5", "5", "7.5"] and rows[0]["confidence"] == "0.9"
    assert rows[3]["glad</script>"] == "0.8" and rows[2]["calm"] == "" and rows[3]["warning"] == "unlike"
    text = (tmp_path / "out" / "a.html").read_text("utf-8")
    assert (
        'src="../my%20talks/a%231.wav"' in text
        and "<audio" in text
        and "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    )


def test_what_the_page_draws_is_data_that_ends_no_script(tmp_path):
    text = page(tmp_path, tmp_path / "<b>.mp4", MOMENTS, Subtitles(text="all <i>said</i>"), LABELS)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(data)
    assert data["labels"] == list(LABELS) and data["probabilities"][2] is None
    assert data["probabilities"][0] == [0.9, pytest.approx(0.1)] and data["times"][3] == [7.5, 12.5]
    assert "<video" in text and "&lt;b&gt;.mp4" in text and "all &lt;i&gt;said" in text
    assert "1 of 4 windows carry a warning: unlike" in text
