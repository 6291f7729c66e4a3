"""CLIP's image preprocessing as two matrix products, so that uint8 frames of any size are resized on the device.

Rows and columns of the result are weighted sums of the input's; the weights, one small matrix per axis and input size,
come from the host.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # transformers' OPENAI_CLIP_MEAN
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def cubic(x: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    """Pillow's bicubic kernel (a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=256)
def resize_and_crop_weights(
    height: int, width: int, size: int
) -> tuple[Float[np.ndarray, "{size} {height}"], Float[np.ndarray, "{size} {width}"]]:
    """Bicubic resize of the shorter edge to `size`, then centre crop: the weights of both axes.

    The filter is widened when shrinking (antialiasing), as in Pillow and so in transformers' CLIP image processor.
    """
    short, long = min(height, width), max(height, width)
    resized = {short: size, long: int(size * long / short)}
    return axis_weights(height, resized[height], size), axis_weights(width, resized[width], size)


def axis_weights(source: int, resized: int, cropped: int) -> Float[np.ndarray, "{cropped} {source}"]:
    """Weights of one axis: resize source -> resized, keep the middle `cropped`."""
    scale = source / resized
    support = max(scale, 1.0)
    offset = (resized - cropped) // 2
    centres = (np.arange(offset, offset + cropped) + 0.5) * scale
    positions = np.arange(source) + 0.5
    # Pillow rounds the window's ends to whole pixels, which drops stray taps at its rim.
    first = np.maximum((centres - 2 * support + 0.5).astype(int), 0)
    last = np.minimum((centres + 2 * support + 0.5).astype(int), source)
    inside = (positions >= first[:, None]) & (positions < last[:, None])
    weights = np.where(inside, cubic((positions - centres[:, None]) / support), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def clip_pixels(
    frames: UInt8[Array | np.ndarray, "B T H W 3"],
    rows: Float[Array | np.ndarray, "B size H"],
    columns: Float[Array | np.ndarray, "B size W"],
) -> Float[Array, "B T size size 3"]:
    """Frames -> pixels as CLIP wants them, float32. rows, columns: weights, zero beside frames padded to H x W.

    One frame of each clip at a time is widened to float32, so that large frames do not multiply by their number.
    Time is the axis to go along: the batch is split over devices, which would send each other their clips.
    """

    def one_moment(frames: UInt8[Array, "B H W 3"]) -> Float[Array, "B Y X 3"]:
        x = as_bytes(jnp.einsum("BHWC,BXW->BHXC", frames.astype(jnp.float32), columns))
        x = as_bytes(jnp.einsum("BHXC,BYH->BYXC", x, rows))
        return (x / 255 - MEAN) / STD

    return jax.lax.map(one_moment, frames.swapaxes(0, 1)).swapaxes(0, 1)


def as_bytes(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Rounds and clips to 0..255: Pillow stores bytes after each of the two passes."""
    return jnp.clip(jnp.round(x), 0, 255)
