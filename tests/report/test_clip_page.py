"""The page of clips: its rows by hand, and what strangers' names and transcripts do to it."""

import json

import numpy as np
import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.embeddings import Features
from mer_jax.report.clip_page import ClipInputs, clip_rows, write_clip_page
from mer_jax.text.rankings import Rankings
from mer_jax.text.transcripts import Transcripts
from tests.data.media_files import numbered_frames, tone, write_video
from tests.report.test_page import Page

HOSTILE = "</script><script>alert(1)</script><!-- \u2028 \ud83d 表情"
MODALITIES = ("speech", "text")


@pytest.fixture
def inputs(tmp_path):
    """Three labelled clips, the first of which has no modality, one unlabelled, and a test clip with its truth."""
    write_video(tmp_path / "v.mp4", numbered_frames(4), tone(1.0))
    clips = (
        Clip("empty", "train", label="x"),
        Clip("t", "test", tmp_path / "v.mp4", transcript="heard"),
        Clip(HOSTILE, "train", tmp_path / "v.mp4", transcript=HOSTILE, label="y<b>"),
        Clip("plain", "train", label="x"),
        Clip("u", "unlabeled"),
    )
    dataset = Dataset("<i>toy", ("x", "y<b>"), clips, {"t": "x"})
    present = {"speech": [0, 1, 1, 0, 1], "text": [0, 1, 1, 1, 0]}
    features = {
        name: Features(
            np.zeros((5, 1), np.float32), np.array(own, bool), {i: f"no {name}" for i in range(5) if not own[i]}
        )
        for name, own in present.items()
    }
    rankings = Rankings("lexicon", {HOSTILE: ("y<b>", "x")}, {})
    return ClipInputs(dataset, clips, features, Transcripts("whisper", clips, frozenset([1])), rankings)


def scores(count):
    """Of so many clips: of each the number in all that is said."""
    numbers = range(count)
    return {
        "positions": list(numbers),
        "probs": [[i / 10, 1 - i / 10] for i in numbers],
        "attention": [[i, -i] for i in numbers],
        "subsets": {
            "speech": [[i % 2, 0.5] for i in numbers],
            "text": [None] * count,
            "speech+text": [[1, 0.9]] * count,
        },
    }


SCORES = {"train": scores(2), "unlabeled": scores(1), "test": scores(1)}


def test_every_row_is_of_its_own_clip(inputs):
    rows = clip_rows(inputs, SCORES, MODALITIES)
    assert [(row["at"], row["name"], row["split"], row["label"]) for row in rows] == [
        (2, HOSTILE, "train", 1),
        (3, "plain", "train", 0),
        (4, "u", "unlabeled", -1),
        (1, "t", "test", 0),
    ]
    first, second, third, fourth = rows
    assert (
        first["missing"] == {}
        and second["missing"] == {"speech": "no speech"}
        and third["missing"] == {"text": "no text"}
    )
    assert first["text"] == HOSTILE and first["ranking"] == [1, 0] and "heard" not in first and "text" not in second
    assert fourth["text"] == "heard" and fourth["heard"] == 1 and fourth["ranking"] == []
    assert second["probs"] == [0.1, 0.9] and second["attention"] == [1, -1]
    assert second["subsets"] == {"speech": [1, 0.5], "speech+text": [1, 0.9]}


def test_thinned_out_clips_keep_their_names(inputs):
    thinned = SCORES | {"train": scores(1) | {"positions": [1]}}
    assert [row["name"] for row in clip_rows(inputs, thinned, MODALITIES)] == ["plain", "u", "t"]


def written(inputs, folder):
    write_clip_page(inputs, SCORES, MODALITIES, ExtractionSettings(workers=1), folder / "clips.html")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_strangers_words_stay_words(inputs, tmp_path):
    files = written(inputs, tmp_path / "report")
    data = files["clips/data.js"].decode("ascii")
    content = json.loads(data.removeprefix("const DATA = ").removesuffix(";\n"))
    assert "</script" not in data and content["clips"][0]["name"] == content["clips"][0]["text"] == HOSTILE
    html = files["clips.html"].decode()
    assert "alert(1)" not in html and "<i>" not in html and "y<b>" not in html and "y&lt;b&gt;" in html
    page = Page(html)
    assert page.tags.count("script") == 2 and not {"iframe", "link", "object"} & set(page.tags)
    assert page.addresses == ["index.html", "clips/data.js"]
    script = html[html.index('"use strict"') :]
    assert not any(word in script for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("))


def test_pictures_and_sound_of_those_that_have_some_and_the_same_bytes_twice(inputs, tmp_path):
    files = written(inputs, tmp_path / "report")
    (tmp_path / "report" / "clips" / "00009.jpg").write_bytes(b"of an earlier start")
    assert written(inputs, tmp_path / "report") == files
    assert sorted(files) == ["clips.html", "clips/00000.jpg", "clips/00003.jpg", "clips/data.js"]
    content = json.loads(files["clips/data.js"].removeprefix(b"const DATA = ").removesuffix(b";\n"))
    first, second = content["clips"][:2]
    assert first["strip"][0] == "00000.jpg" and first["seconds"] == 1.0 and len(first["outline"]) == 96
    assert "strip" not in second and second["outline"] == "" and "at" not in first
