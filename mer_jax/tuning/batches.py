"""Labelled clips -> batches of whole frames, resized on the device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import CorruptionSettings, corrupted
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.media import segment_draws
from mer_jax.features.readers import Chunk, VideoReader, read_all
from mer_jax.models.preprocess import clip_pixels


class Batch(NamedTuple):
    """Clips of every fold: G folds, b clips each, T frames."""

    pixels: jax.Array  # [G, b, T, S, S, 3] float32
    mask: jax.Array  # [G, b, T] bool, False beside a clip of fewer frames
    labels: jax.Array  # [G, b] int32
    real: jax.Array  # [G, b] bool, False where a fold has run out of clips


def drawing_reader(reader: VideoReader, seed: int, epoch: int, position: int) -> VideoReader:
    """The reader of one clip in one epoch: a random frame of each segment, the same after a restart."""
    rng = np.random.default_rng([seed, epoch, position])
    return replace(reader, choose=partial(segment_draws, rng=rng))


@dataclass
class FoldBatches:
    """Labelled clips in batches of equally many clips of every fold."""

    clips: Sequence[Clip]  # those that have frames
    labels: np.ndarray  # [N] int
    fold_of: np.ndarray  # [N] int
    reader: VideoReader  # for validation; training draws its frames at random
    corruption: CorruptionSettings  # of training clips, drawn for every clip and epoch anew; validation is clean
    extraction: ExtractionSettings
    batch_size: int  # clips of all folds together
    seed: int  # of the order, the frames and the corruptions

    def __post_init__(self) -> None:
        self.folds = [np.flatnonzero(self.fold_of == fold) for fold in range(self.fold_of.max() + 1)]
        self.per_fold = max(1, self.batch_size // len(self.folds))
        self.steps = -(-max(map(len, self.folds)) // self.per_fold)  # of an epoch
        self.resize = jax.jit(partial(clip_pixels, preprocessing=self.reader.preprocessing))

    def training(self, epoch: int) -> Iterator[Batch]:
        """Every clip once: in random order, with frames and corruptions of this epoch, the same after a restart."""
        draws = np.random.default_rng([self.seed, epoch])
        order = [draws.permutation(fold) for fold in self.folds]
        clips = [corrupted(clip, self.corruption, self.seed, f" epoch {epoch}") for clip in self.clips]
        return self.load(clips, order, partial(drawing_reader, self.reader, self.seed, epoch))

    def validation(self) -> Iterator[Batch]:
        """Every clip once, as inference reads it."""
        return self.load(self.clips, self.folds, lambda position: self.reader)

    def load(
        self, clips: Sequence[Clip], order: Sequence[np.ndarray], reader_of: Callable[[int], VideoReader]
    ) -> Iterator[Batch]:
        """Batches of `per_fold` clips of each fold, in the order given for each fold."""
        padded = np.full((len(order), self.steps * self.per_fold), -1)
        for fold, positions in enumerate(order):
            padded[fold, : len(positions)] = positions
        grid = padded.reshape(len(order), self.steps, self.per_fold).swapaxes(0, 1)  # [steps, G, b]

        readers = [(reader_of(position), clips[position]) for position in grid[grid >= 0].tolist()]
        contents = read_all(readers, self.extraction)
        for positions in grid:
            read = [next(contents) if position >= 0 else Absent("padding") for position in positions.reshape(-1)]
            chunks = [None if isinstance(content, Absent) else content[0] for content in read]
            data, mask, *side = stack_chunks(chunks, self.reader.num_frames, self.reader.image_size)
            real = np.array([chunk is not None for chunk in chunks]).reshape(positions.shape)
            pixels = self.resize(data, *side)
            yield Batch(
                pixels.reshape(*positions.shape, *pixels.shape[1:]),
                jnp.asarray(mask.reshape(*positions.shape, -1)),
                jnp.asarray(self.labels[positions]),
                jnp.asarray(real),
            )


def stack_chunks(chunks: Sequence[Chunk | None], num_frames: int, size: int) -> tuple[np.ndarray, ...]:
    """Frames uint8 [B, T, H, W, 3], mask [B, T], resize weights [B, S, H], [B, S, W], transposed [B]; zeros for None.

    size: S, the side of the images that the network takes.
    """
    real = [chunk for chunk in chunks if chunk is not None]
    height, width = (max([1, *(chunk.data.shape[axis] for chunk in real)]) for axis in (1, 2))
    data = np.zeros((len(chunks), num_frames, height, width, 3), np.uint8)
    mask = np.zeros((len(chunks), num_frames), bool)
    rows, columns = (np.zeros((len(chunks), size, side), np.float32) for side in (height, width))
    transposed = np.zeros(len(chunks), bool)
    for i, chunk in enumerate(chunks):
        if chunk is not None:
            frames, down, right, _ = chunk.data.shape
            data[i, :frames, :down, :right] = chunk.data
            mask[i, :frames] = True
            rows[i, :, :down], columns[i, :, :right], transposed[i] = chunk.side
    return data, mask, rows, columns, transposed
