"""From a clip's files to arrays for the device: one reader per modality.

A reader has two halves. `read` takes a clip to what is decoded from its files; where that means decoding media
or images (`decodes`), it is sent to a worker process. `chunks` cuts that into pieces of bounded length. Either raises
Absent when the clip does not have the modality. `identity` names what would be read, so that the feature store
notices a changed file.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import LARGEST_SIDE, ExtractionSettings, clip_faces, clip_frames, clip_sound, time_limit
from mer_jax.data.decoding import identity as file_identity
from mer_jax.data.media import is_silent, segment_centres
from mer_jax.data.workers import map_in_workers
from mer_jax.models.preprocess import OPENAI, Preprocessing, resize_and_crop_weights
from mer_jax.runtime.files import of_the_system
from mer_jax.text.templates import join

SIDES = (128, 160, 256, 384, 512, 768, 1088, 1440, 1920, 2880, LARGEST_SIDE)  # px, frames are padded to these
LEAST_AHEAD = 16  # clips read before they are needed, also on few cores: about a batch, or the device waits for it
UNCHANGED = (np.float32(0), np.float32(1))  # mean and scale of sound that is not normalised
SHORTEST_SOUND = 400  # samples: HuBERT's receptive field at 16 kHz


@dataclass(frozen=True)
class Chunk:
    """A piece of a clip: data [length, ...] and what belongs to the piece as a whole."""

    data: np.ndarray
    side: tuple[Any, ...] = ()  # arrays of one shape for all chunks


class MediaReader:
    """Reads what has to be decoded from a clip's media file, unless the clip is prepared."""

    def decodes(self, clip: Clip) -> bool:
        return not clip.prepared

    def identity(self, clip: Clip) -> str:
        return clip.prepared.identity() if clip.prepared else file_identity(clip.media)


@dataclass(frozen=True)
class SpeechReader(MediaReader):
    """Sound as int16 chunks [S]; beside each the whole clip's mean and 1 / standard deviation (spec: Speech).

    normalised: or 0 and 1, for a checkpoint that was trained on sound as it is.
    """

    sample_rate: int
    chunk_seconds: float
    normalised: bool = True

    @property
    def read(self) -> Callable[[Clip], np.ndarray]:
        return partial(clip_sound, sample_rate=self.sample_rate)

    def identity(self, clip: Clip) -> str:
        return super().identity(clip) + (f"|track {clip.audio_track}" if clip.audio_track else "")

    def chunks(self, waveform: np.ndarray) -> list[Chunk]:
        if is_silent(waveform, self.sample_rate):
            raise Absent("silent")
        if waveform.size < SHORTEST_SOUND:
            raise Absent("sound shorter than one frame")
        step = int(self.chunk_seconds * self.sample_rate)
        pieces = [waveform[start : start + step] for start in range(0, waveform.size, step)]
        side = UNCHANGED
        if self.normalised:
            mean = waveform.mean(dtype=np.float64)
            squares = sum(float(np.square(piece - mean).sum()) for piece in pieces)
            side = (np.float32(mean / 32768), np.float32(1 / np.sqrt(squares / waveform.size / 32768**2 + 1e-7)))
        return [Chunk(piece, side) for piece in pieces if piece.size >= SHORTEST_SOUND]


@dataclass(frozen=True)
class FaceReader:
    """Aligned face crops as uint8 RGB chunks [T, H, W, 3] with their resize weights (spec: Image).

    most_frames: of a clip with more, so many evenly spaced ones; 0: all.
    """

    image_size: int
    chunk_frames: int
    preprocessing: Preprocessing = OPENAI
    most_frames: int = 0
    read = staticmethod(clip_faces)

    def decodes(self, clip: Clip) -> bool:
        return not clip.prepared and clip.faces is not None and clip.faces.is_dir()

    def identity(self, clip: Clip) -> str:
        return clip.prepared.identity() if clip.prepared else file_identity(clip.faces)

    def chunks(self, crops: np.ndarray) -> list[Chunk]:
        if 0 < self.most_frames < len(crops):
            crops = crops[segment_centres(self.most_frames, len(crops))]
        chunk = frame_chunk(crops, self.image_size, self.preprocessing)
        starts = range(0, len(crops), self.chunk_frames)
        return [Chunk(chunk.data[start : start + self.chunk_frames], chunk.side) for start in starts]


@dataclass(frozen=True)
class VideoReader(MediaReader):
    """`num_frames` whole frames of a clip as one uint8 RGB chunk [T, H, W, 3] (spec: Video).

    choose: (num_frames, frames in the clip) -> positions; the segment centres unless training draws them.
    """

    image_size: int
    num_frames: int
    choose: Callable[[int, int], np.ndarray] = segment_centres
    preprocessing: Preprocessing = OPENAI

    @property
    def read(self) -> Callable[[Clip], np.ndarray]:
        return partial(clip_frames, choose=partial(self.choose, self.num_frames))

    def chunks(self, frames: np.ndarray) -> list[Chunk]:
        return [frame_chunk(frames, self.image_size, self.preprocessing)]


def frame_chunk(frames: np.ndarray, image_size: int, preprocessing: Preprocessing = OPENAI) -> Chunk:
    """Pads frames [T, H, W, 3] to the next of SIDES and adds what resizes and crops them (see `clip_pixels`)."""
    _, height, width, _ = frames.shape
    rows, columns = resize_and_crop_weights(height, width, image_size, preprocessing)
    if transposed := preprocessing.vertical_first(height, width, image_size):
        frames, rows, columns, height, width = frames.swapaxes(1, 2), columns, rows, width, height
    down, right = next_side(height) - height, next_side(width) - width
    padded = np.pad(frames, ((0, 0), (0, down), (0, right), (0, 0)))
    weights = np.pad(rows, ((0, 0), (0, down))), np.pad(columns, ((0, 0), (0, right)))
    return Chunk(padded, (*weights, np.bool_(transposed)))


def next_side(side: int) -> int:
    """The smallest of SIDES that holds `side` pixels."""
    if side > SIDES[-1]:
        raise Absent(f"frames of {side} px are larger than the {SIDES[-1]} px that are supported")
    return next(allowed for allowed in SIDES if allowed >= side)


@dataclass(frozen=True)
class TextReader:
    """Ranking and transcript joined, as one chunk of token ids int32 [L] (spec: Text), between the checkpoint's own."""

    tokenize: Callable[[Sequence[str]], list[list[int]]]
    rankings: Mapping[str, Sequence[str]]  # transcript -> labels, most likely first; may lack some
    template: str
    max_tokens: int
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()

    def decodes(self, clip: Clip) -> bool:
        return False

    def identity(self, clip: Clip) -> str:
        return join(self.rankings.get(clip.transcript), clip.transcript, self.template)

    def read(self, clip: Clip) -> np.ndarray:
        if not clip.transcript:
            raise Absent(clip.no_transcript)
        if clip.corruption:
            clip.corruption.check("text")
        (tokens,) = self.tokenize([self.identity(clip)])
        text = [*self.prefix, *tokens][: self.max_tokens - len(self.suffix)]
        return np.array([*text, *self.suffix], np.int32)

    def chunks(self, tokens: np.ndarray) -> list[Chunk]:
        return [Chunk(tokens)]


def read_all(
    pairs: Sequence[tuple[Any, Clip]], settings: ExtractionSettings
) -> Generator[list[Chunk] | Absent, None, None]:
    """Each (reader, clip)'s chunks, or the Absent that says why there are none, in order, read before they are needed.

    Media are decoded in processes; Grain's threads, as many, keep them busy, and read what needs no decoder themselves.
    """
    count = settings.workers or os.cpu_count() or 1

    def read(pair: tuple[Any, Clip]) -> list[Chunk] | Absent:
        reader, clip = pair
        try:
            if reader.decodes(clip):
                limit = time_limit(clip, settings.time_limit)
                (array,) = map_in_workers(reader.read, [clip], lambda clip: limit, count=1)
            else:
                array = reader.read(clip)
            return array if isinstance(array, Absent) else reader.chunks(array)
        except (Absent, OSError) as reason:
            if of_the_system(reason):
                raise
            return Absent(str(reason))  # without the traceback, which would hold the clip's arrays

    import grain.python as grain  # brings Orbax

    ahead = grain.ReadOptions(num_threads=count, prefetch_buffer_size=max(2 * count, LEAST_AHEAD))
    yield from grain.MapDataset.source(pairs).map(read).to_iter_dataset(ahead)
