"""Transcripts behind their cache: who is asked about what, and what becomes of the rest."""

import csv
from dataclasses import replace

import pytest

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.text.transcript_settings import TranscriptSettings
from mer_jax.text.transcripts import (
    Hearing,
    Transcript,
    TranscriptCache,
    Transcripts,
    transcribe_clips,
    write_transcripts,
)


class Fake:
    """Hears a clip's name; nothing in "mute", nothing for now in "later"."""

    name, model, stopped = "fake", "m", ""

    def __init__(self):
        self.asked, self.planned = [], []

    def plan(self, clips, spent):
        self.planned.append(([clip.name for clip in clips], spent.seconds))
        return "to hear"

    def transcribe(self, sounds, spent):
        for key, clip in sounds:
            self.asked.append(clip.name)
            if clip.name == "stop":
                self.stopped = "the budget is spent"
                return
            text = None if clip.name in ("mute", "later") else f"it is {clip.name}"
            yield Transcript(key, text, "" if text else "no idea", Hearing(1, 2.5), clip.name != "later")


@pytest.fixture
def hear(tmp_path, monkeypatch):
    """(names, **of transcribe_clips) -> transcripts, and the transcriber."""

    def run(names, **options):
        fake = Fake()
        monkeypatch.setattr("mer_jax.text.transcripts.make_transcriber", lambda *_, **__: fake)
        clips = []
        for name in names:
            (tmp_path / name).write_text(f"sound of {name}")
            clips.append(Clip(name, "train", tmp_path / name))
        settings = TranscriptSettings("openai", cache=str(tmp_path / "cache"))
        return transcribe_clips(clips, settings, ExtractionSettings(), **options), fake

    return run


def test_only_what_the_cache_lacks_is_planned_and_asked(hear):
    transcripts, fake = hear(["a", "mute", "later"])
    assert fake.asked == ["a", "mute", "later"] and fake.planned == [(fake.asked, 0.0)]
    assert transcripts.transcriber == "fake (m, language as it finds)"
    assert transcripts.clips[0].transcript == "it is a" and transcripts.failures == {1: "no idea", 2: "no idea"}
    assert transcripts.section() == {"transcriber": transcripts.transcriber, "given": 1, "failed": 2}
    _, fake = hear(["b", "a", "mute", "later"])
    assert fake.asked == ["b", "later"] and fake.planned == [(fake.asked, 7.5)]


def test_why_a_transcriber_stopped_is_why_the_rest_has_no_transcript(hear):
    transcripts, _ = hear(["a", "stop", "b"])
    assert transcripts.failures == {1: "the budget is spent", 2: "the budget is spent"}
    assert transcripts.summary().splitlines() == [
        "1 of 3 clips without a transcript given one by fake (m, language as it finds)",
        "  2 without: the budget is spent",
    ]


def test_a_file_that_changes_is_another_sound(hear, tmp_path):
    hear(["a"])
    (tmp_path / "a").write_text("another sound")
    clip = Clip("a", "train", tmp_path / "a")
    settings = TranscriptSettings("openai", cache=str(tmp_path / "cache"))
    assert not transcribe_clips([clip], settings, ExtractionSettings(), dry_run=True).given


def test_nobody_is_asked_where_nothing_lacks_or_nobody_is_named(tmp_path):
    """Not even for a key."""
    clip = Clip("a", "train", tmp_path / "a")
    spoken, silent = replace(clip, transcript="known"), Clip("b", "train")
    for clips, who in (((clip,), "none"), ((spoken, silent), "openai")):
        transcripts = transcribe_clips(clips, TranscriptSettings(who), ExtractionSettings())
        assert transcripts == Transcripts("none", clips) and transcripts.section() is None


def test_a_table_says_whose_each_transcript_is(hear, tmp_path):
    transcripts, _ = hear(["a", "mute"])
    known = Clip("known", "test", transcript="=1+1")
    write_transcripts(tmp_path / "t.csv", replace(transcripts, clips=(*transcripts.clips, known)))
    with open(tmp_path / "t.csv", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["name", "text", "by", "reason"],
            ["a", "it is a", "fake (m, language as it finds)", ""],
            ["mute", "", "", "no transcript (no idea)"],
            ["known", "'=1+1", "the data set", ""],
        ]


def test_killed_at_any_byte_and_damaged(tmp_path, capsys):
    opened = lambda: TranscriptCache(tmp_path, Fake(), "zh")  # noqa: E731
    with opened() as cache:
        cache.append(Transcript("x", "你好", usage=Hearing(1, 0.5)))
        cache.append(Transcript("y", None, "no speech heard"))
    whole = cache.path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole) - 1, 7):
        cache.path.write_bytes(whole[:length])
        with opened() as torn:
            assert list(torn.answers) == ["x"] and torn.spent == Hearing(1, 0.5)
    capsys.readouterr()
    cache.path.write_bytes(whole.replace("你好".encode(), "再见".encode()))
    with opened() as changed:
        assert list(changed.answers) == ["y"]
    assert "1 lines cannot be read: asked again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"text": 5}, {"text": ["a"]}, {"usage": {"seconds": float("nan")}}, {"usage": {"requests": -1}}]
)
def test_a_line_of_other_types_is_no_transcript(tmp_path, change):
    cache = TranscriptCache(tmp_path, Fake(), "")
    entry = {"sound": "x", "text": "a", "reason": "", "usage": {}, "final": True}
    assert cache.parse(dict(entry), {}) == Transcript("x", "a")
    with pytest.raises((ValueError, TypeError)):
        cache.parse(entry | change, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transcriber": "siri"}, "transcriber='siri': unknown; known: none, openai, whisper"),
        ({"language": "../x"}, """language='../x': expected a code like "zh" or "en\""""),
        ({"openai": {"base_url": "http://h?key=s3cret"}}, r"openai\.base_url: holds a name, password or key"),
        ({"whisper": {"source": "./gone"}}, r"whisper\.source='\./gone': no such folder"),
    ],
)
def test_what_cannot_work_is_refused_at_the_door(change, message):
    with pytest.raises(UsageError, match=message):
        read_settings(TranscriptSettings, change)
