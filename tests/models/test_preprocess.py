"""Resizing as matrix products against transformers' CLIP image processor."""

import numpy as np
import pytest
from PIL import Image

from mer_jax.models.preprocess import STD, clip_pixels, resize_and_crop_weights

transformers = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")


@pytest.mark.parametrize(
    ("height", "width", "size"), [(112, 112, 48), (360, 640, 224), (100, 50, 224), (511, 300, 224), (7, 9, 32)]
)
def test_equals_the_clip_image_processor(height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    rows, columns = resize_and_crop_weights(height, width, size)
    pixels = clip_pixels(image[None, None], rows[None], columns[None])[0, 0]
    difference = np.abs(np.asarray(pixels) - expected) * 255 * STD  # in grey levels
    assert difference.max() < 1.01  # Pillow sums in fixed point: a rounding may fall to the other side
    assert (difference > 0.5).mean() < 1e-3


def test_padding_a_frame_changes_nothing():
    frames = np.random.default_rng(1).integers(0, 256, (1, 2, 60, 80, 3), np.uint8)
    rows, columns = resize_and_crop_weights(60, 80, 32)
    alone = clip_pixels(frames, rows[None], columns[None])
    padded = np.pad(frames, ((0, 0), (0, 0), (0, 4), (0, 16), (0, 0)), constant_values=255)
    wide = clip_pixels(padded, np.pad(rows, ((0, 0), (0, 4)))[None], np.pad(columns, ((0, 0), (0, 16)))[None])
    np.testing.assert_allclose(wide, alone, atol=1e-5)
