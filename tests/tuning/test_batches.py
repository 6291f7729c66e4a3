"""Which frames are drawn, and how clips become batches."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import CorruptionSettings
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.readers import Chunk, VideoReader
from mer_jax.models.preprocess import MEAN, STD
from mer_jax.tuning.batches import FoldBatches, drawing_reader, stack_chunks

READER = VideoReader(8, 3)


def drawn(seed, epoch, position):
    """Positions that one clip of 300 frames gives in one epoch."""
    return drawing_reader(READER, seed, epoch, position).choose(3, 300).tolist()


def test_frames_are_drawn_anew_for_each_epoch_clip_and_seed_and_the_same_after_a_restart():
    draws = [drawn(0, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1), drawn(1, 0, 0)]
    assert len(set(map(tuple, draws))) == 4
    assert draws == [drawn(0, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1), drawn(1, 0, 0)]
    for draw in draws:
        assert [frame // 100 for frame in draw] == [0, 1, 2]  # one of each segment


def clip(level, count=9):
    """Frame i of `count` is `level + i` grey; without frames if `level` is None."""

    def frames(choose):
        if level is None:
            raise Absent("no frames")
        levels = (level + choose(count)).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (len(levels), 8, 8, 3)).copy()

    return Clip(str(level), "train", prepared=SimpleNamespace(identity=str, frames=frames))


def fold_batches(clips, labels, fold_of, batch_size=4):
    settings = {"batch_size": batch_size, "seed": 0}
    return FoldBatches(clips, labels, np.array(fold_of), READER, CorruptionSettings(), ExtractionSettings(), **settings)


def test_batches_take_the_clips_of_each_fold_in_the_order_given():
    """Fold 0 has the clips 2, 0 and 4, fold 1 the clips 3 and 1; of clip 1 there are 2 frames, of clip 4 none."""
    clips = [clip(0), clip(50, count=2), clip(100), clip(150), clip(None)]
    order = [np.array([2, 0, 4]), np.array([3, 1])]
    labels = np.array([10, 11, 12, 13, 14])
    batches = list(fold_batches(clips, labels, [0, 1, 0, 1, 0]).load(clips, order, lambda position: READER))
    assert len(batches) == 2
    first, second = batches
    np.testing.assert_array_equal(first.labels, [[12, 10], [13, 11]])
    np.testing.assert_array_equal(first.real, [[True, True], [True, True]])
    np.testing.assert_array_equal(second.labels[0, 0], 14)
    np.testing.assert_array_equal(second.real, np.zeros((2, 2), bool))
    np.testing.assert_array_equal(first.mask, [[[True] * 3, [True] * 3], [[True] * 3, [True, True, False]]])
    levels = np.array([[[101, 104, 107], [1, 4, 7]], [[151, 154, 157], [50, 51, 0]]])  # the middles of three segments
    expected = (levels[..., None] / 255 - MEAN) / STD  # [G, b, T, 3]
    assert first.pixels.shape == (2, 2, 3, 8, 8, 3) and first.pixels.dtype == jnp.float32
    real = np.asarray(first.mask)
    shown = np.asarray(first.pixels)[real]
    np.testing.assert_allclose(shown, np.broadcast_to(expected[real][:, None, None], shown.shape), atol=1e-5)


def test_the_reader_of_a_clip_is_by_its_position():
    asked = []
    clips = [clip(10 * i) for i in range(4)]
    reader_of = lambda position: asked.append(position) or READER  # noqa: E731
    batches = fold_batches(clips, np.zeros(4, int), [1, 0, 1, 0], batch_size=2)
    list(batches.load(clips, [np.array([3, 1]), np.array([2])], reader_of))
    assert asked == [3, 2, 1]


def test_clips_of_several_sizes_are_stacked_in_a_corner():
    small, wide = (
        Chunk(
            np.full((2, *size, 3), level, np.uint8),
            (np.full((5, size[0]), 0.5), np.full((5, size[1]), 0.25), size[0] > 3),
        )
        for level, size in ((1, (4, 2)), (2, (3, 6)))
    )
    data, mask, rows, columns, transposed = stack_chunks([small, None, wide], 3, 5)
    assert data.shape == (3, 3, 4, 6, 3)
    assert (data[0, :2, :4, :2] == 1).all() and (data[2, :2, :3, :6] == 2).all()
    assert data.sum() == small.data.sum() + wide.data.sum()
    np.testing.assert_array_equal(mask, [[True, True, False], [False] * 3, [True, True, False]])
    assert transposed.tolist() == [True, False, False]
    np.testing.assert_array_equal(rows.sum((1, 2)), [5 * 4 * 0.5, 0, 5 * 3 * 0.5])
    np.testing.assert_array_equal(columns.sum((1, 2)), [5 * 2 * 0.25, 0, 5 * 6 * 0.25])
