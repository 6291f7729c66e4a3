"""From a clip's files to arrays for the device: one reader per modality, numpy only, usable in any worker.

A reader gives a clip as chunks of bounded length, raises Absent when the clip does not have the modality, and
names what it would read (`identity`), so that the feature store notices a changed file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import Clip
from mer_jax.data.media import Unreadable, is_silent, read_frames, read_sound, segment_centres
from mer_jax.models.preprocess import resize_and_crop_weights
from mer_jax.text.templates import join

SIDES = (128, 160, 256, 384, 512, 768, 1088, 1440, 1920, 2880, 3840)  # px, frames are padded to these
SHORTEST_SOUND = 400  # samples: HuBERT's receptive field at 16 kHz


class Absent(Exception):
    """The clip lacks the modality. The message is the reason."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a clip: data [length, ...] and what belongs to the piece as a whole."""

    data: np.ndarray
    side: tuple[Any, ...] = ()  # arrays of one shape for all chunks


def identity(path: Path | None) -> str:
    """Names a file's content cheaply: name, size and time of the last change."""
    if path is None:
        return "none"
    stat = path.stat()
    return f"{path.name}|{stat.st_size}|{stat.st_mtime_ns}"


@dataclass(frozen=True)
class SpeechReader:
    """Sound as int16 chunks [S]; beside each the whole clip's mean and 1 / standard deviation (spec: Speech)."""

    sample_rate: int
    chunk_seconds: float

    def identity(self, clip: Clip) -> str:
        return identity(clip.media)

    def __call__(self, clip: Clip) -> list[Chunk]:
        if clip.media is None:
            raise Absent("row without a clip")
        waveform = read_sound(clip.media, self.sample_rate)
        if is_silent(waveform):
            raise Absent("silent")
        if waveform.size < SHORTEST_SOUND:
            raise Absent("sound shorter than one frame")
        scaled = waveform / 32768
        side = (np.float32(scaled.mean()), np.float32(1 / np.sqrt(scaled.var() + 1e-7)))
        step = int(self.chunk_seconds * self.sample_rate)
        pieces = [waveform[start : start + step] for start in range(0, waveform.size, step)]
        return [Chunk(piece, side) for piece in pieces if piece.size >= SHORTEST_SOUND]


@dataclass(frozen=True)
class FaceReader:
    """Aligned face crops as uint8 RGB chunks [T, H, W, 3] with their resize weights (spec: Image)."""

    image_size: int
    chunk_frames: int

    def identity(self, clip: Clip) -> str:
        return identity(clip.faces)

    def __call__(self, clip: Clip) -> list[Chunk]:
        if clip.faces is None:
            raise Absent("no face")
        try:
            crops = np.load(clip.faces, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise Absent(f"face crops cannot be read: {error}") from error
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[-1] != 3:
            raise Absent(f"face crops are {crops.dtype} {list(crops.shape)}, expected uint8 [T, H, W, 3]")
        if len(crops) == 0:
            raise Absent("no face")
        chunk = frame_chunk(crops[..., ::-1], self.image_size)
        starts = range(0, len(crops), self.chunk_frames)
        return [Chunk(chunk.data[start : start + self.chunk_frames], chunk.side) for start in starts]


@dataclass(frozen=True)
class VideoReader:
    """`num_frames` whole frames of a clip as one uint8 RGB chunk [T, H, W, 3] (spec: Video).

    choose: (num_frames, frames in the clip) -> positions; the segment centres unless training draws them.
    """

    image_size: int
    num_frames: int
    choose: Callable[[int, int], np.ndarray] = segment_centres

    def identity(self, clip: Clip) -> str:
        return identity(clip.media)

    def __call__(self, clip: Clip) -> list[Chunk]:
        if clip.media is None:
            raise Absent("row without a clip")
        frames = read_frames(clip.media, partial(self.choose, self.num_frames))
        return [frame_chunk(frames, self.image_size)]


def frame_chunk(frames: np.ndarray, image_size: int) -> Chunk:
    """Pads frames [T, H, W, 3] to the next of SIDES and adds the weights that resize and crop them."""
    _, height, width, _ = frames.shape
    rows, columns = resize_and_crop_weights(height, width, image_size)
    down, right = next_side(height) - height, next_side(width) - width
    padded = np.pad(frames, ((0, 0), (0, down), (0, right), (0, 0)))
    return Chunk(padded, (np.pad(rows, ((0, 0), (0, down))), np.pad(columns, ((0, 0), (0, right)))))


def next_side(side: int) -> int:
    """The smallest of SIDES that holds `side` pixels."""
    fitting = [allowed for allowed in SIDES if allowed >= side]
    if not fitting:
        raise Absent(f"frames of {side} px are larger than the {SIDES[-1]} px that are supported")
    return fitting[0]


@dataclass(frozen=True)
class TextReader:
    """Ranking and transcript joined, as one chunk of token ids int32 [L] (spec: Text)."""

    tokenize: Callable[[Sequence[str]], list[list[int]]]
    rankings: Mapping[str, Sequence[str]]  # transcript -> labels, most likely first; may lack some
    template: str
    max_tokens: int

    def text(self, clip: Clip) -> str:
        return join(self.rankings.get(clip.transcript), clip.transcript, self.template)

    def identity(self, clip: Clip) -> str:
        return self.text(clip)

    def __call__(self, clip: Clip) -> list[Chunk]:
        if not clip.transcript:
            raise Absent("no transcript")
        (tokens,) = self.tokenize([self.text(clip)])
        return [Chunk(np.array(tokens[: self.max_tokens], np.int32))]


def read_or_reason(reader: Callable[[Clip], list[Chunk]], clip: Clip) -> list[Chunk] | str:
    """A clip's chunks, or why it has none: one bad clip never stops a run."""
    try:
        return reader(clip)
    except (Absent, Unreadable, OSError) as reason:
        return str(reason)
