"""A clip's sound as transcribers take it: 16 kHz mono, decoded as the speech encoder has it."""

import hashlib
import io
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, clip_sound, media_of, time_limit
from mer_jax.data.media import is_silent, media_seconds
from mer_jax.data.workers import map_in_workers
from mer_jax.runtime.files import of_the_system, open_regular
from mer_jax.runtime.kept import blake2b

SAMPLE_RATE = 16_000  # Hz
SHORTEST = SAMPLE_RATE // 10  # samples; servers refuse less


class Inaudible(Absent):
    """There is nothing to hear, at another start as little."""


def sound_keys(clips: Sequence[Clip]) -> list[str | Absent]:
    """What names each clip's sound: its file's content, whatever the file is called; or why there is none."""
    with ThreadPoolExecutor() as readers:  # hashing leaves Python's lock
        return list(readers.map(sound_key, clips))


def sound_key(clip: Clip) -> str | Absent:
    """See `sound_keys`. OSError where the system does not give the file."""
    try:
        if clip.prepared:
            content = clip.prepared.identity()
        else:
            with open_regular(media_of(clip)) as file:
                content = hashlib.file_digest(file, blake2b).hexdigest()  # type: ignore[arg-type]
    except (Absent, OSError) as error:
        if of_the_system(error):
            raise
        return Absent(str(getattr(error, "strerror", None) or error))
    track = f" track {clip.audio_track}" if clip.audio_track else ""
    return f"{content}{track}" + (f" {clip.corruption}" if clip.corruption else "")


def audible(clip: Clip, settings: ExtractionSettings) -> np.ndarray:
    """Its sound as int16 [S], S >= SHORTEST, decoded in a process that can be lost. Absent where nothing is heard."""
    if clip.prepared:
        waveform = clip_sound(clip, SAMPLE_RATE)
    else:
        limit = time_limit(clip, settings.time_limit)
        (waveform,) = map_in_workers(partial(clip_sound, sample_rate=SAMPLE_RATE), [clip], lambda clip: limit, count=1)
    if isinstance(waveform, Absent):
        raise waveform
    if is_silent(waveform, SAMPLE_RATE):
        raise Inaudible("silent")
    if waveform.size < SHORTEST:
        raise Inaudible("sound shorter than 0.1 s")
    return waveform


def seconds_of(clips: Sequence[Clip], settings: ExtractionSettings) -> list[float]:
    """About how long each clip is, by what its file says of itself; 0 where it says nothing."""
    limit = settings.time_limit
    lengths = map_in_workers(said_seconds, clips, lambda clip: time_limit(clip, limit), count=settings.workers)
    return [0.0 if isinstance(seconds, Absent) else seconds for seconds in lengths]


def said_seconds(clip: Clip) -> float:
    """A worker's job, of `seconds_of`."""
    if clip.prepared:
        return len(clip.prepared.sound(SAMPLE_RATE)) / SAMPLE_RATE
    return media_seconds(media_of(clip)) or 0.0


def wav(waveform: np.ndarray) -> bytes:
    """int16 [S] at SAMPLE_RATE as a file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes(waveform.astype("<i2").tobytes())
    return file.getvalue()
