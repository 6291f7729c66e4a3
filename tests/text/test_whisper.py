"""The local transcriber, with a stand-in for the package faster-whisper."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.transcript_settings import TranscriptSettings, WhisperSettings
from mer_jax.text.transcripts import transcribe_clips
from tests.data.media_files import tone, write_sound


class WhisperModel:
    """As much of faster_whisper.WhisperModel as is used."""

    made: list = []  # noqa: RUF012

    def __init__(self, path, *, device, compute_type, local_files_only):
        self.made.append((path, device, compute_type, local_files_only))

    def transcribe(self, sound, *, language, beam_size, temperature, condition_on_previous_text):
        assert sound.dtype == np.float32 and abs(sound).max() <= 1 and temperature == 0
        if beam_size == 9:
            raise RuntimeError("CUDA out of memory")
        texts = [f" {language}", f" {len(sound)}\n"]
        return (SimpleNamespace(text=text) for text in texts), SimpleNamespace(language=language)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The stand-in, whose hub has one model."""
    module = ModuleType("faster_whisper")
    WhisperModel.made.clear()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")

    def download_model(name):
        if name != "small":
            raise ValueError(f"Invalid model size '{name}'")
        return str(folder)

    module.WhisperModel, module.download_model = WhisperModel, download_model
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return folder


@pytest.fixture
def hear(tmp_path):
    """(**of WhisperSettings) -> transcripts of one clip of half a second."""

    def run(language="zh", **options):
        write_sound(tmp_path / "a.wav", [tone(0.5)[None]], "pcm_s16le", "mono")
        settings = TranscriptSettings("whisper", language, str(tmp_path / "cache"), whisper=WhisperSettings(**options))
        return transcribe_clips([Clip("a", "train", tmp_path / "a.wav")], settings, ExtractionSettings())

    return run


def test_what_is_said_is_heard_once_by_each_model(package, hear):
    for language, text in (("zh", "zh 8000"), ("", "None 8000"), ("zh", "zh 8000")):
        assert hear(language).clips[0].transcript == text
    assert WhisperModel.made == [(str(package), "auto", "default", True)] * 2
    assert hear(source=str(package), compute_type="int8").given and len(WhisperModel.made) == 3
    (package / "model.bin").write_bytes(b"other weights")
    assert hear().given and len(WhisperModel.made) == 4


def test_an_error_of_the_network_costs_the_clip_until_the_next_start(package, hear):
    assert hear(beam_size=9).failures == {0: "CUDA out of memory"}
    assert hear(beam_size=9).failures and len(WhisperModel.made) == 2


def test_a_model_that_is_not_there_is_one_line(package, hear, tmp_path):
    with pytest.raises(DataError, match=r"whisper\.source=huge: no such folder, and the hub did not give it"):
        hear(source="huge")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no model\.bin; expected a Whisper model"):
        hear(source=str(tmp_path / "empty"))


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, hear):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UsageError, match=r'pip install "mer_jax\[transcribe\]"'):
        hear()
