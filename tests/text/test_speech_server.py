"""The transcriber behind a server, against one that misbehaves."""

import shutil
from dataclasses import replace

import pytest

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.speech_server import ServerTranscriber
from mer_jax.text.transcript_settings import SpeechServerSettings, TranscriptSettings
from mer_jax.text.transcripts import Hearing, TranscriptCache, transcribe_clips
from tests.data.media_files import tone, write_sound
from tests.text.chat_server import KEY
from tests.text.odd_servers import Compressing, Dripping, Echoing, Redirecting
from tests.text.speech_server import SpeechServer, heard

EXTRACTION = ExtractionSettings()


@pytest.fixture
def serve(running, tmp_path):
    """(**server) -> (server, settings that name it)."""

    def start(settings=None, language="", **options):
        server = running(SpeechServer(**options))
        own = SpeechServerSettings(**{"base_url": server.url, **(settings or {})})
        return server, TranscriptSettings("openai", language, str(tmp_path / "cache"), own)

    return start


def tones(folder, count, seconds=0.5):
    """Clips of tones of 300, 310, ... Hz."""
    folder.mkdir(exist_ok=True)
    clips = []
    for i in range(count):
        path = folder / f"tone{i}.wav"
        write_sound(path, [tone(seconds, 300 + 10 * i)[None]], "pcm_s16le", "mono")
        clips.append(Clip(path.stem, "train", path))
    return clips


def texts(transcripts):
    return [clip.transcript for clip in transcripts.clips]


def test_asked_once_and_never_again_whatever_files_are_called(serve, tmp_path):
    server, settings = serve(together=2)
    clips = tones(tmp_path, 6)
    expected = [heard(300 + 10 * i) for i in range(6)]
    transcripts = transcribe_clips(clips, settings, EXTRACTION)
    assert texts(transcripts) == expected and transcripts.given == frozenset(range(6)) and not transcripts.failures
    moved = [
        replace(clip, name="other", media=shutil.copy(clip.media, tmp_path / f"other{clip.name}")) for clip in clips
    ]
    assert texts(transcribe_clips([*clips, *moved], settings, EXTRACTION)) == expected * 2
    assert server.stats()["requests"] == 6 and 1 < server.most_busy <= 8
    assert server.keys == {f"Bearer {KEY}"} and not any("language" in body for body in server.bodies)
    (kept,) = (tmp_path / "cache").iterdir()
    assert KEY not in kept.read_text("utf-8") and kept.name == "openai-whisper-1-any.jsonl"


def test_what_is_sent_is_decoded_as_for_the_speech_encoder(serve, tmp_path):
    server, settings = serve()
    stereo = tone(1.0, 700, 44_100).repeat(2)[None]
    write_sound(tmp_path / "a.m4a", [stereo], "alac", "stereo", 44_100)
    assert texts(transcribe_clips([Clip("a", "train", tmp_path / "a.m4a")], settings, EXTRACTION)) == [heard(700)]
    assert server.bodies == [{"model": "whisper-1", "seconds": pytest.approx(1.0, abs=0.01)}]


@pytest.mark.parametrize("kind", ["drop", "cut", "500", "html", "garbled"])
def test_faults_of_the_server_cost_nothing_but_time(serve, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("mer_jax.text.client.LONGEST_BACKOFF", 0.01)
    server, settings = serve(faults=0.4, kinds=(kind,))
    transcripts = transcribe_clips(tones(tmp_path, 8), settings, EXTRACTION)
    assert server.shown[kind] and not transcripts.failures and set(server.paid.values()) == {1}


def test_bad_clips_cost_themselves_and_nothing_is_sent_of_them(serve, tmp_path):
    server, settings = serve()
    (good,) = tones(tmp_path, 1)
    write_sound(tmp_path / "silent.wav", [tone(1.0, peak=0)[None]], "pcm_s16le", "mono")
    write_sound(tmp_path / "short.wav", [tone(0.05)[None]], "pcm_s16le", "mono")
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    bad = [Clip(name, "train", tmp_path / f"{name}.wav") for name in ("silent", "short", "damaged", "gone")]
    without, spoken = Clip("none", "train"), replace(good, name="spoken", transcript="known")
    transcripts = transcribe_clips([*bad, without, spoken, good], settings, EXTRACTION)
    assert [clip.no_transcript for clip in transcripts.clips[:5]] == [
        "no transcript (silent)",
        "no transcript (sound shorter than 0.1 s)",
        "no transcript (cannot decode: Invalid data found when processing input)",
        "no transcript (No such file or directory)",
        "no transcript",
    ]
    assert texts(transcripts) == ["", "", "", "", "", "known", heard(300)] and transcripts.given == {6}
    assert server.stats()["requests"] == 1


def test_the_language_and_the_model_are_sent_and_name_other_transcripts(serve, tmp_path):
    server, settings = serve(language="zh")
    clips = tones(tmp_path, 1)
    for each in (
        settings,
        replace(settings, language="en"),
        replace(settings, openai=replace(settings.openai, model="m")),
    ):
        for _ in range(2):
            assert transcribe_clips(clips, each, EXTRACTION).given
    assert [(body["language"], body["model"]) for body in server.bodies] == [
        ("zh", "whisper-1"),
        ("en", "whisper-1"),
        ("zh", "m"),
    ]


def test_the_budget_in_minutes_holds_over_starts(serve, tmp_path):
    server, settings = serve({"max_minutes": 0.05})  # six of half a second
    clips = tones(tmp_path, 9)
    for _ in range(2):
        transcripts = transcribe_clips(clips, settings, EXTRACTION)
        assert len(transcripts.given) == server.stats()["requests"] == 6
        assert set(transcripts.failures.values()) == {"the budget of 0.1 minutes is spent"}
    free = replace(settings, openai=replace(settings.openai, max_minutes=0.0))
    assert not transcribe_clips(clips, free, EXTRACTION).failures and server.stats()["requests"] == 9


def test_the_budget_in_money(serve, tmp_path):
    server, settings = serve({"max_cost": 0.04, "minute_price": 1.0}, latency=0.2)  # four of half a second
    transcripts = transcribe_clips(tones(tmp_path, 9), settings, EXTRACTION)
    assert len(transcripts.given) == server.stats()["requests"] == 4
    with pytest.raises(UsageError, match="minute_price"):
        ServerTranscriber(replace(settings, openai=replace(settings.openai, minute_price=0.0)), EXTRACTION)


def test_a_dry_run_asks_nothing_and_needs_no_key(serve, tmp_path, capsys, monkeypatch):
    server, settings = serve({"base_url": ""})
    monkeypatch.delenv("OPENAI_API_KEY")
    transcripts = transcribe_clips(tones(tmp_path, 4, seconds=30.0), settings, EXTRACTION, dry_run=True)
    assert not server.asked and set(transcripts.failures.values()) == {"not asked yet"}
    shown = capsys.readouterr().err
    assert "4 clips, about 2.0 minutes" in shown and "about $0.01, after $0.00" in shown
    with pytest.raises(UsageError, match=r"set OPENAI_API_KEY, or transcripts\.openai\.base_url"):
        transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION)


def test_a_sound_that_the_server_refuses_costs_itself_alone(serve, tmp_path):
    refuses = lambda body: (400, {"error": {"message": "no audio"}}) if body["seconds"] < 1 else None  # noqa: E731
    _server, settings = serve(refuses=refuses)
    clips = [*tones(tmp_path, 1), *tones(tmp_path / "long", 3, seconds=1.5)]
    assert transcribe_clips(clips, settings, EXTRACTION).failures == {0: "HTTP 400 (no audio)"}


@pytest.mark.parametrize(("status", "most"), [(401, 3), (404, 3), (400, 30)])
def test_what_all_sounds_would_meet_ends_the_command(serve, tmp_path, status, most):
    refuses = lambda body: (status, {"error": {"message": f"no {KEY}"}})  # noqa: E731
    server, settings = serve({"concurrency": 2}, refuses=refuses)
    with pytest.raises(DataError, match=rf"^transcriber openai: HTTP {status} \(no \[key\]\): check the key"):
        transcribe_clips(tones(tmp_path, 40, seconds=0.2), settings, EXTRACTION)
    assert server.stats()["requests"] <= most


def test_a_long_sound_goes_in_pieces(serve, tmp_path):
    server, settings = serve({"piece_seconds": 1.0, "concurrency": 1})
    assert texts(transcribe_clips(tones(tmp_path, 1, seconds=2.05), settings, EXTRACTION)) == [
        f"{heard(300)} " * 1 + heard(300)
    ]
    assert [body["seconds"] for body in server.bodies] == [1.0, 1.0]


def test_what_cannot_have_been_said_is_no_transcript(serve, tmp_path):
    _server, settings = serve(says=lambda text: "you " * 60)
    (reason,) = transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION).failures.values()
    assert reason == "239 characters, more than can be said in 0.5 s"
    _server, settings = serve({"model": "mute"}, says=lambda text: " \n")
    assert transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION).failures == {0: "no speech heard"}


def test_a_transcript_is_one_line_without_the_key(serve, tmp_path):
    _server, settings = serve(says=lambda text: f"a\n b {KEY}\t")
    assert texts(transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION)) == ["a b [key]"]


@pytest.mark.parametrize("text", [None, 5, ["a"], {"a": 1}])
def test_a_text_of_another_type_is_no_transcription(serve, tmp_path, text):
    _server, settings = serve({"attempts": 1}, says=lambda _: text)
    assert transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION).failures == {
        0: "the server's answer is not a transcription"
    }


def test_what_was_sent_counts_whatever_came_of_it(serve, tmp_path):
    _server, settings = serve({"attempts": 1}, faults=1.0, kinds=("html",))
    transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION)
    with TranscriptCache(tmp_path / "cache", ServerTranscriber(settings, EXTRACTION), "") as cache:
        assert cache.spent == Hearing(1, 0.5)


@pytest.mark.parametrize(
    ("handler", "said"),
    [(Dripping, "the server's answer does not end"), (Compressing, "Connection error. a compressed reply")],
)
def test_replies_without_measure_are_given_up(odd_server, tmp_path, monkeypatch, handler, said):
    monkeypatch.setattr("mer_jax.text.client.LONGEST_REPLY", 2)
    server = SpeechServerSettings(base_url=odd_server(handler), timeout_s=0.5, attempts=1)
    settings = TranscriptSettings("openai", "", str(tmp_path / "cache"), server)
    (reason,) = transcribe_clips(tones(tmp_path, 1), settings, EXTRACTION).failures.values()
    assert reason.startswith(said)


@pytest.mark.parametrize(("handler", "said"), [(Redirecting, "HTTP 307"), (Echoing, r"HTTP 401 \(xxx")])
def test_what_is_sent_goes_to_no_other_address_and_no_key_is_told(odd_server, tmp_path, handler, said):
    settings = SpeechServerSettings(base_url=odd_server(handler), timeout_s=0.5, attempts=1)
    with pytest.raises(DataError, match=said) as error:
        transcribe_clips(tones(tmp_path, 1), TranscriptSettings("openai", "", str(tmp_path), settings), EXTRACTION)
    assert KEY[:6] not in str(error.value)
