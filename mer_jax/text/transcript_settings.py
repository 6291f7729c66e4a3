"""Who makes transcripts, and how."""

import re
from dataclasses import dataclass

from mer_jax.checkpoints.sources import wrong_source
from mer_jax.runtime.settings import section, setting
from mer_jax.text.server_settings import ServerSettings


@dataclass(frozen=True)
class SpeechServerSettings(ServerSettings):
    """Any server of audio transcriptions: `config.transcripts.openai`."""

    model: str = setting("whisper-1")
    timeout_s: float = setting(300.0, above=0)  # a long sound takes a server a while
    concurrency: int = setting(8, least=1)  # requests under way at any time
    piece_seconds: float = setting(600.0, least=1)  # of a longer clip pieces are sent: servers take 25 MB or so
    max_minutes: float = setting(0.0, least=0)  # of sound, over all starts with this cache; 0: any number
    max_cost: float = setting(0.0, least=0)  # likewise, in the currency of the price
    minute_price: float = setting(0.006, least=0)


@dataclass(frozen=True)
class WhisperSettings:
    """Whisper on this machine, by the package faster-whisper: `config.transcripts.whisper`."""

    source: str = setting("small", wrong=wrong_source)  # folder in CTranslate2's layout, hub id, or a size
    device: str = setting("auto", choices=("auto", "cpu", "cuda"))
    compute_type: str = setting("default")  # of CTranslate2: int8, float16, ...
    beam_size: int = setting(5, least=1)


def wrong_language(code: str) -> str:
    """What is wrong with a language's code; empty if nothing is."""
    return "" if re.fullmatch("([a-z]{2,3})?", code) else 'expected a code like "zh" or "en"'


@dataclass(frozen=True)
class TranscriptSettings:
    """Who writes down what is said in clips without a transcript: `config.transcripts`."""

    transcriber: str = setting("none", choices=("none", "openai", "whisper"))  # "none": such clips have no text
    language: str = setting("", wrong=wrong_language)  # that is spoken: "zh", "en"; empty: the model finds out
    cache: str = setting("")  # folder of the transcripts; empty: transcripts in $MER_JAX_CACHE or ~/.cache/mer_jax
    openai: SpeechServerSettings = section(SpeechServerSettings)
    whisper: WhisperSettings = section(WhisperSettings)
