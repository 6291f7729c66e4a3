"""Resizing as matrix products against transformers' CLIP image processor."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mer_jax.models.preprocess import MEAN, STD, as_bytes, clip_pixels, resize_and_crop_weights

transformers = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(112, 112, 48), (112, 112, 224), (128, 128, 224), (360, 640, 224), (100, 50, 224), (511, 300, 224), (7, 9, 32)],
)
def test_equals_the_clip_image_processor(height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    rows, columns = resize_and_crop_weights(height, width, size)
    pixels = clip_pixels(image[None, None], rows[None], columns[None])[0, 0]
    np.testing.assert_allclose(pixels, expected, atol=1e-5)  # to the byte, but for how they are divided


def test_padding_a_frame_changes_nothing():
    frames = np.random.default_rng(1).integers(0, 256, (1, 2, 60, 80, 3), np.uint8)
    rows, columns = resize_and_crop_weights(60, 80, 32)
    alone = clip_pixels(frames, rows[None], columns[None])
    padded = np.pad(frames, ((0, 0), (0, 0), (0, 4), (0, 16), (0, 0)), constant_values=255)
    wide = clip_pixels(padded, np.pad(rows, ((0, 0), (0, 4)))[None], np.pad(columns, ((0, 0), (0, 16)))[None])
    np.testing.assert_allclose(wide, alone, atol=1e-5)


@pytest.mark.parametrize("side", [112, 128, 37, 1200])
def test_the_bytes_are_pillows_where_a_device_multiplies_in_bfloat16(side, monkeypatch):
    """At 112 px many sums fall on a half. TPUs round float32 factors to 8 bits, of which these have no more."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    einsum = jnp.einsum

    def rounded(formula, *factors):
        factors = [jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32) for x in factors]
        return einsum(formula, *factors)

    monkeypatch.setattr(jnp, "einsum", rounded)
    rows, columns = resize_and_crop_weights(side, side, 224)
    pixels = np.asarray(clip_pixels(image[None, None], rows[None], columns[None])[0, 0])
    expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(np.round((pixels * STD + MEAN) * 255), expected)


def test_sums_are_rounded_half_up():
    halves = np.array([-3, 0.5, 1.5, 2.5 - 2**-22, 254.5, 300.0])
    whole = (halves * 2**22).astype(np.int64)
    parts = jnp.asarray(np.stack([whole >> 16, whole >> 8 & 255, whole & 255]), jnp.float32)
    np.testing.assert_array_equal(as_bytes(parts), [0, 1, 2, 2, 255, 255])
