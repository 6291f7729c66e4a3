"""The local transcriber, with no server and no key: Whisper by https://github.com/SYSTRAN/faster-whisper."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.checkpoints.huggingface import fingerprint
from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.sounds import SAMPLE_RATE, Inaudible, audible, seconds_of
from mer_jax.text.transcript_settings import TranscriptSettings
from mer_jax.text.transcripts import NO_WHISPER, Hearing, Transcript


class WhisperTranscriber:
    """See `Transcriber`. Raises UsageError without the package, DataError where there is no such model."""

    name = "whisper"
    stopped = ""

    def __init__(self, settings: TranscriptSettings, extraction: ExtractionSettings):
        try:
            import faster_whisper
        except ImportError as error:
            raise UsageError(f"{NO_WHISPER} ({error})") from error
        self.package: Any = faster_whisper
        self.settings, self.language, self.extraction = settings.whisper, settings.language, extraction
        self.folder = self._folder(self.settings.source)
        name = f"{self.settings.source}@{fingerprint(self.folder)[:12]}"
        self.model = f"{name}-{self.settings.compute_type}-{self.settings.beam_size}"

    def _folder(self, source: str) -> Path:
        if Path(source).is_dir():
            folder = Path(source)
        else:
            try:
                folder = Path(self.package.download_model(source))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"transcripts.whisper.source={source}: no such folder, and the hub did not give it "
                    f"({type(error).__name__}): check the name, or download the model and pass its folder"
                ) from error
        if not (folder / "model.bin").is_file():
            raise DataError(f"{folder}: no model.bin; expected a Whisper model in CTranslate2's layout")
        return folder

    def plan(self, clips: Sequence[Clip], spent: Hearing) -> str:
        minutes = sum(seconds_of(clips, self.extraction)) / 60
        return f"{len(clips):,} clips, about {minutes:,.1f} minutes of sound, heard here: nothing to pay"

    @cached_property
    def network(self) -> Any:
        """The model."""
        settings = self.settings
        try:
            return self.package.WhisperModel(
                str(self.folder), device=settings.device, compute_type=settings.compute_type, local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(f"{self.folder}: cannot be loaded as a Whisper model ({error})") from error

    def transcribe(self, sounds: Iterable[tuple[str, Clip]], spent: Hearing) -> Iterator[Transcript]:
        """See `Transcriber`."""
        for key, clip in sounds:
            try:
                waveform = audible(clip, self.extraction)
                text, usage = self._text(waveform), Hearing(0, waveform.size / SAMPLE_RATE)
                yield Transcript(key, text or None, "" if text else "no speech heard", usage)
            except Inaudible as reason:
                yield Transcript(key, None, str(reason))
            except (Absent, RuntimeError, ValueError) as reason:  # CTranslate2 raises the latter
                yield Transcript(key, None, str(reason), final=False)

    def _text(self, waveform: np.ndarray) -> str:
        """What is said in a sound int16 [S]. Without chance: by beam search alone."""
        segments, _ = self.network.transcribe(
            waveform.astype(np.float32) / 32768,
            language=self.language or None,
            beam_size=self.settings.beam_size,
            temperature=0.0,
            condition_on_previous_text=False,  # or it repeats itself
        )
        return " ".join("".join(segment.text for segment in segments).split())
