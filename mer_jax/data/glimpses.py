"""A clip at a glance: a strip of small pictures, and the outline of its sound.

Nothing here imports JAX: glimpses are taken in worker processes.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, clip_faces, clip_frames, clip_sound, mapped_crops, time_limit
from mer_jax.data.media import segment_centres
from mer_jax.data.workers import map_in_workers

FACES, FRAMES = 5, 3  # pictures of a strip
HEIGHT = 72  # px
BINS = 96  # of the outline
LEVELS = "0123456789abcdefghijklmnopqrstuvwxyz"
RATE = 16_000  # Hz, as prepared clips have it
SECONDS = 10.0  # that a clip may take, and one more for each MiB of its file


class Glimpse(NamedTuple):
    """What there is to see and hear."""

    strip: bytes | None  # JPEG of pictures side by side, HEIGHT px high
    width: int  # px of the strip
    outline: str  # BINS of LEVELS: the square root of the largest sample in each part; "": no sound
    seconds: float  # of the sound


def glimpses(clips: Sequence[Clip], settings: ExtractionSettings) -> Iterator[Glimpse]:
    """One of each clip, in order; nothing in it where nothing can be read within SECONDS."""
    nothing = Glimpse(None, 0, "", 0.0)
    ordinary = (clip for clip in clips if not clip.prepared)
    limit = min(SECONDS, settings.time_limit)
    taken = map_in_workers(glimpse, ordinary, lambda clip: time_limit(clip, limit), count=settings.workers)
    for clip in clips:
        seen = glimpse(clip) if clip.prepared else next(taken)
        yield nothing if isinstance(seen, Absent) else seen


def glimpse(clip: Clip) -> Glimpse:
    """A worker's job."""
    strip, width, waveform = None, 0, np.zeros(0, np.int16)
    with suppress(Absent):
        strip, width = jpeg(pictures(clip))
    with suppress(Absent):
        waveform = clip_sound(clip, RATE)
    return Glimpse(strip, width, outline(waveform), waveform.size / RATE)


def pictures(clip: Clip) -> np.ndarray:
    """A few of its face crops, or of its frames where it has none, uint8 RGB [T, H, W, 3]. Absent without either."""
    if clip.faces and clip.faces.is_file():
        crops = mapped_crops(clip.faces)
        return np.array(crops[segment_centres(FACES, len(crops))])[..., ::-1]  # they are BGR
    if clip.faces or clip.prepared:
        crops = clip_faces(clip)
        return crops[segment_centres(FACES, len(crops))]
    return clip_frames(clip, partial(segment_centres, FRAMES))


def jpeg(frames: np.ndarray) -> tuple[bytes | None, int]:
    """Frames uint8 RGB [T, H, W, 3] side by side, and the width; None of none."""
    if not len(frames):
        return None, 0
    width = max(1, min(2 * HEIGHT, round(HEIGHT * frames.shape[2] / frames.shape[1])))
    strip = Image.new("RGB", (width * len(frames), HEIGHT))
    for i, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((width, HEIGHT)), (i * width, 0))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=75, optimize=True)
    return file.getvalue(), strip.width


def outline(waveform: np.ndarray) -> str:
    """int16 [S] -> BINS of LEVELS; "" of no sample."""
    if not waveform.size:
        return ""
    edges = np.arange(BINS) * waveform.size // BINS
    peaks = np.maximum.reduceat(np.abs(waveform.astype(np.int32)), edges) / 32768
    return "".join(LEVELS[level] for level in np.rint(np.sqrt(peaks) * (len(LEVELS) - 1)).astype(int))
