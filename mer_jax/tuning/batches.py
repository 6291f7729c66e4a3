"""Labelled clips -> batches of whole frames, resized on the device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.media import segment_draws
from mer_jax.features.readers import Chunk, VideoReader, read_all


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


def load(
    clips: Sequence[Clip],
    labels: np.ndarray,
    order: Sequence[np.ndarray],
    per_fold: int,
    reader_of: Callable[[int], VideoReader],
    resize: Callable[..., jax.Array],
    num_frames: int,
    image_size: int,
) -> Iterator[Batch]:
    """Batches of `per_fold` clips of each fold, in the order given for each fold."""
    steps = -(-max(map(len, order)) // per_fold)
    padded = np.full((len(order), steps * per_fold), -1)
    for fold, positions in enumerate(order):
        padded[fold, : len(positions)] = positions
    grid = padded.reshape(len(order), steps, per_fold).swapaxes(0, 1)  # [steps, G, b]

    positions_read = grid[grid >= 0].tolist()
    read = read_all([(reader_of(position), clips[position]) for position in positions_read])
    for positions in grid:
        contents = [next(read) if position >= 0 else Absent("padding") for position in positions.reshape(-1)]
        chunks = [None if isinstance(content, Absent) else content[0] for content in contents]
        data, mask, rows, columns = stack_chunks(chunks, num_frames, image_size)
        real = np.array([chunk is not None for chunk in chunks]).reshape(positions.shape)
        pixels = resize(data, rows, columns)
        yield Batch(
            pixels.reshape(*positions.shape, *pixels.shape[1:]),
            jnp.asarray(mask.reshape(*positions.shape, -1)),
            jnp.asarray(labels[positions]),
            jnp.asarray(real),
        )


def stack_chunks(chunks: Sequence[Chunk | None], num_frames: int, size: int) -> tuple[np.ndarray, ...]:
    """Frames uint8 [B, T, H, W, 3], mask [B, T], resize weights [B, S, H] and [B, S, W]; zeros for None.

    size: S, the side of the images that the network takes.
    """
    found = [chunk for chunk in chunks if chunk is not None]
    height, width = (max([1, *(chunk.data.shape[axis] for chunk in found)]) for axis in (1, 2))
    data = np.zeros((len(chunks), num_frames, height, width, 3), np.uint8)
    mask = np.zeros((len(chunks), num_frames), bool)
    rows, columns = (np.zeros((len(chunks), size, side), np.float32) for side in (height, width))
    for i, chunk in enumerate(chunks):
        if chunk is not None:
            frames, down, right, _ = chunk.data.shape
            data[i, :frames, :down, :right] = chunk.data
            mask[i, :frames] = True
            rows[i, :, :down], columns[i, :, :right] = chunk.side
    return data, mask, rows, columns
