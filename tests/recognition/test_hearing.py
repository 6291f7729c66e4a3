"""Transcripts for files that come without, where the run made its own of the sound."""

from dataclasses import replace

from mer_jax.data.dataset import FolderData
from mer_jax.data.recording import Window
from mer_jax.features.input_settings import InputSettings
from mer_jax.recognition.files import File
from mer_jax.recognition.hearing import hearing
from mer_jax.text.transcript_settings import SpeechServerSettings, TranscriptSettings
from tests.data.media_files import tone, write_sound
from tests.text.speech_server import SpeechServer, heard


def test_files_without_a_text_are_heard_and_parts_of_files_are_not(tmp_path, running):
    server = running(SpeechServer())
    write_sound(tmp_path / "a.wav", [tone(0.5, 500)[None]], "pcm_s16le", "mono")
    (tmp_path / "b.wav").write_bytes(b"none")
    own = TranscriptSettings("openai", "", str(tmp_path / "cache"), SpeechServerSettings(base_url=server.url))
    settings = InputSettings(variant="folder", data=FolderData(modalities="text"), transcripts=own)
    whole = File(tmp_path / "a.wav", group="g")
    others = [whole._replace(text="known"), File(tmp_path / "b.wav"), whole._replace(window=Window(0.0, 0.2))]
    assert hearing(settings)([whole, *others]) == [whole._replace(text=heard(500)), *others]
    assert server.stats()["requests"] == 1
    assert hearing(replace(settings, transcripts=TranscriptSettings())) is None
    assert hearing(replace(settings, data=FolderData(modalities="speech"))) is None
