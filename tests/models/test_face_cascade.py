import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mer_jax.data.detect import load_mtcnn
from mer_jax.models import face_cascade


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_boxes(rng, *shape):
    corners = rng.uniform(0, 60, (*shape, 2))
    return jnp.asarray(np.concatenate([corners, corners + rng.uniform(8, 40, (*shape, 2))], -1), jnp.float32)


def overlap(a, b, of_smaller):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (min(areas) if of_smaller else sum(areas) - width * height)


@pytest.mark.parametrize("of_smaller", [False, True])
def test_suppress_is_greedy(rng, of_smaller):
    boxes, scores = random_boxes(rng, 2, 3, 40), -np.sort(-rng.uniform(0.1, 1, (2, 3, 40)).astype(np.float32))
    scores[:, :, 30:] = 0
    kept = np.asarray(face_cascade.suppress(boxes, jnp.asarray(scores), 0.3, of_smaller=of_smaller))
    for index in np.ndindex(2, 3):
        survivors = []
        for box, score in zip(np.asarray(boxes[index]), scores[index], strict=True):
            if score > 0 and all(overlap(box, other, of_smaller) <= 0.3 for other, _ in survivors):
                survivors.append((box, score))
        assert 1 < len(survivors) < 30
        np.testing.assert_array_equal(kept[index][kept[index] > 0], [score for _, score in survivors])


@pytest.mark.parametrize("frame", [(192, 320), (320, 192), (256, 320), (320, 320)])
def test_levels_do_not_touch_each_other_on_the_canvas(frame):
    sizes = face_cascade.pyramid(*frame)
    corners, (height, width) = face_cascade.pack(sizes)
    used = np.zeros((height, width), int)
    for (h, w), (top, left) in zip(sizes, corners, strict=True):
        assert h % 2 == w % 2 == top % 2 == left % 2 == 0
        assert used[top : top + h, left : left + w].shape == (h, w)
        used[top : top + h, left : left + w] += 1
    assert used.max() == 1


@pytest.mark.parametrize("size", [(20, 30), (13, 17)])
def test_shrink_equals_pillow(rng, size):
    image = rng.uniform(-1, 1, (40, 60)).astype(np.float32)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    shrunk = face_cascade.shrink(jnp.asarray(image)[None, :, :, None], *size)[0, :, :, 0]
    np.testing.assert_allclose(shrunk, np.asarray(expected), atol=1e-5)


def test_proposals_are_those_of_each_level_alone(rng, monkeypatch):
    monkeypatch.setattr(face_cascade, "THRESHOLDS", (0.02, 0.7, 0.7))  # noise scores low
    pnet = jax.jit(load_mtcnn().pnet)
    frames = rng.integers(256, size=(2, 48, 64, 3), dtype=np.uint8)
    propose = jax.jit(face_cascade.propose, static_argnums=0)
    scores, boxes = propose(pnet, frames, np.zeros(2, np.int32))
    shrink = jax.jit(face_cascade.shrink, static_argnums=(1, 2))
    sizes = face_cascade.pyramid(48, 64)
    assert scores.shape == (2, len(sizes), face_cascade.PER_LEVEL)
    assert (scores > 0).any(axis=(0, 2)).all()
    largest = face_cascade.normalise(shrink(frames, *sizes[0]))
    for level, (h, w) in enumerate(sizes):
        alone, offsets = pnet(shrink(largest, h, w))
        for b in range(2):
            order = np.argsort(-alone[b].ravel())[: face_cascade.PER_LEVEL]
            order = order[alone[b].ravel()[order] > face_cascade.THRESHOLDS[0]]
            np.testing.assert_allclose(scores[b, level, : len(order)], alone[b].ravel()[order], atol=1e-5)
            assert not scores[b, level, len(order) :].any()
            y, x = np.divmod(order, alone.shape[2])
            windows = np.stack([2 * x, 2 * y, 2 * x + 12, 2 * y + 12], -1) + 12 * offsets[b, y, x]
            expected = windows * np.array([64 / w, 48 / h] * 2)
            np.testing.assert_allclose(boxes[b, level, : len(order)], expected, atol=1e-3)
    part, _ = propose(pnet, frames, np.array([1, face_cascade.NOWHERE], np.int32))  # each frame from a level of its own
    np.testing.assert_array_equal(part[0], np.where(np.arange(len(sizes))[:, None] < 1, 0, scores[0]))
    assert not part[1].any()


def test_the_first_level_is_the_last_of_windows_up_to_its_part_of_a_face():
    windows = face_cascade.MIN_FACE / face_cascade.PYRAMID_FACTOR ** np.arange(face_cascade.APART + 1)  # px
    for level, window in enumerate(windows):
        side = window / face_cascade.LARGEST_PART
        assert face_cascade.first_level(1.01 * side) == level
        assert face_cascade.first_level(0.99 * side) == max(level - 1, 0)
    assert face_cascade.first_level(0.0) == 0 and face_cascade.first_level(1e6) == face_cascade.APART


def test_crop_of_whole_pixels_copies_them_and_is_zero_outside(rng):
    frames = jnp.asarray(rng.integers(200, 256, size=(2, 10, 12, 3), dtype=np.uint8))
    pixels = np.asarray(face_cascade.normalise(frames))
    boxes = jnp.array([[2, 1, 8, 7], [9, 7, 15, 13]], jnp.float32)
    crops = np.asarray(face_cascade.crop(frames, boxes, jnp.array([1, 0]), 6))
    np.testing.assert_allclose(crops[0], pixels[1, 1:7, 2:8], atol=1e-6)
    np.testing.assert_allclose(crops[1, :3, :3], pixels[0, 7:, 9:], atol=1e-6)
    assert not crops[1, 3:].any()
    assert not crops[1, :, 3:].any()


def test_judge_computes_the_valid_boxes_and_no_others(rng):
    rnet = jax.jit(load_mtcnn().rnet)
    frames = jnp.asarray(rng.integers(256, size=(2, 100, 100, 3), dtype=np.uint8))
    boxes = random_boxes(rng, 2, face_cascade.KEPT)
    valid, chunk = rng.random((2, face_cascade.KEPT)) < 0.4, 16
    assert valid.sum() > chunk
    scores, offsets = jax.jit(face_cascade.judge, static_argnums=(0, 4, 5))(rnet, frames, boxes, valid, 24, chunk)
    owner, index = np.nonzero(valid)
    crop = jax.jit(face_cascade.crop, static_argnums=3)
    expected = rnet(crop(frames, boxes[owner, index], owner, 24))
    np.testing.assert_allclose(scores[owner, index], expected[0], atol=1e-5)
    np.testing.assert_allclose(offsets[owner, index], expected[1], atol=1e-5)
    assert not scores[~valid].any()
