"""CLIP's image preprocessing as matrix products, so that uint8 frames of any size are resized on the device.

Rows and columns of the result are weighted sums of the input's; the weights, one small matrix per axis and input size,
come from the host. As in Pillow, weights are fixed-point numbers, and sums are rounded half up to bytes: the same bytes
come out, on every device.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.runtime.array_types import Array, Bool, Float, UInt8

BITS = 22  # of a weight behind the point, in Pillow


def cubic(x: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    """Pillow's bicubic kernel (a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def hamming(x: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    return np.where(np.abs(x) < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)


class Filter(NamedTuple):
    """One of Pillow's, which is zero beyond `support` pixels."""

    kernel: Callable[[Float[np.ndarray, "*B"]], Float[np.ndarray, "*B"]]
    support: float


FILTERS = {  # by the numbers that Pillow gives them
    1: Filter(lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0), 3.0),  # Lanczos
    2: Filter(lambda x: np.maximum(1 - np.abs(x), 0.0), 1.0),  # bilinear
    3: Filter(cubic, 2.0),
    4: Filter(lambda x: np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0), 0.5),  # box
    5: Filter(hamming, 1.0),
}


@dataclass(frozen=True)
class Preprocessing:
    """How frames become what a CLIP was trained on, in the terms of its config. The defaults are those of OpenAI's.

    Attributes:
        do_resize: frames as they are, if not.
        size: (height, width) or the shorter edge, px; None: the shorter edge is the side of CLIP's images.
        resample: of FILTERS.
        scale: what bytes are divided by.
        mean, std: of each channel, after that.
    """

    do_resize: bool = True
    size: tuple[int, int] | int | None = None
    resample: int = 3
    scale: float = 255.0
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that are not OpenAI's."""
        return {name: value for name, value in asdict(self).items() if value != getattr(OPENAI, name)}

    def resized(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Height and width, px, of which the middle `side` x `side` is kept."""
        if not self.do_resize:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        edge, short, long = self.size or side, min(height, width), max(height, width)
        resized = {short: edge, long: int(edge * long / short)}
        return resized[height], resized[width]

    def vertical_first(self, height: int, width: int, side: int) -> bool:
        """Whether Pillow, since 13, resizes the height before the width, which rounds some bytes otherwise."""
        rows, columns = self.resized(height, width, side)
        return height > rows and height - rows > 2 * (width - columns)


OPENAI = Preprocessing()
MEAN, STD = np.array(OPENAI.mean, np.float32), np.array(OPENAI.std, np.float32)


@lru_cache(maxsize=256)
def resize_and_crop_weights(
    height: int, width: int, size: int, preprocessing: Preprocessing = OPENAI
) -> tuple[Float[np.ndarray, "{size} {height}"], Float[np.ndarray, "{size} {width}"]]:
    """Resize, by default of the shorter edge to `size`, then centre crop: the weights of both axes.

    The filter is widened when shrinking (antialiasing), as in Pillow and so in transformers' CLIP image processor.
    """
    rows, columns = preprocessing.resized(height, width, size)
    resample = preprocessing.resample
    return axis_weights(height, rows, size, resample), axis_weights(width, columns, size, resample)


def axis_weights(source: int, resized: int, cropped: int, resample: int = 3) -> Float[np.ndarray, "{cropped} {source}"]:
    """Weights of one axis: resize source -> resized, keep the middle `cropped`, black where there are not so many."""
    kernel, radius = FILTERS[resample]
    scale = source / resized
    stretch = max(scale, 1.0)
    support = radius * stretch
    offset = (resized - cropped) // 2
    pixels = np.arange(offset, offset + cropped)
    centres = (pixels.clip(0, resized - 1) + 0.5) * scale
    positions = np.arange(source) + 0.5
    # Pillow rounds the window's ends to whole pixels, which drops stray taps at its rim.
    first = np.maximum((centres - support + 0.5).astype(int), 0)
    last = np.minimum((centres + support + 0.5).astype(int), source)
    inside = (positions >= first[:, None]) & (positions < last[:, None])
    weights = np.where(inside, kernel((positions - centres[:, None]) * (1 / stretch)), 0.0)
    fixed_point = weights / weights.sum(axis=1, keepdims=True) * 2**BITS
    fixed_point *= ((pixels >= 0) & (pixels < resized))[:, None]
    return (np.trunc(fixed_point + np.copysign(0.5, fixed_point)) / 2**BITS).astype(np.float32)  # exact


def clip_pixels(
    frames: UInt8[Array | np.ndarray, "B T H W 3"],
    rows: Float[Array | np.ndarray, "B size H"],
    columns: Float[Array | np.ndarray, "B size W"],
    transposed: Bool[Array | np.ndarray, "*B"] | bool = False,
    preprocessing: Preprocessing = OPENAI,
) -> Float[Array, "B T size size 3"]:
    """Frames -> pixels as CLIP wants them, float32. rows, columns: weights, zero beside frames padded to H x W.

    transposed: clips whose frames lie on their side, with the weights of both axes swapped: since the width goes first
    here, so are those resized whose height goes first in Pillow. Their pixels are upright.

    One frame of each clip at a time is widened to float32, so that large frames do not multiply by their number.
    Time is the axis to go along: the batch is split over devices, which would send each other their clips.
    """

    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    transposed = jnp.reshape(transposed, (-1, 1, 1, 1))
    row_parts, column_parts = (exact_parts(jnp.asarray(weights)) for weights in (rows, columns))

    def one_moment(frames: UInt8[Array, "B H W 3"]) -> Float[Array, "B Y X 3"]:
        x = as_bytes(jnp.einsum("BHWC,PBXW->PBHXC", frames.astype(jnp.float32), column_parts))
        x = as_bytes(jnp.einsum("BHXC,PBYH->PBYXC", x, row_parts))
        x = (x / preprocessing.scale - mean) / std
        return jnp.where(transposed, x.swapaxes(1, 2), x)

    return jax.lax.map(one_moment, frames.swapaxes(0, 1)).swapaxes(0, 1)


def exact_parts(weights: Float[Array, "*B"]) -> Float[Array, "3 *B"]:
    """Fixed-point weights as whole numbers of at most 8 bits: a * 2**16 + b * 2**8 + c is the weight times 2**BITS.

    So products with bytes are exact at any precision that a device multiplies float32 in, and so are their sums.
    """
    whole = weights * 2**BITS
    a = jnp.round(whole / 2**16)
    b = jnp.round((whole - a * 2**16) / 2**8)
    return jnp.stack([a, b, whole - a * 2**16 - b * 2**8])


def as_bytes(sums: Float[Array, "3 *B"]) -> Float[Array, "*B"]:
    """Sums over `exact_parts`, rounded half up and clipped to 0..255: Pillow stores bytes after each of two passes."""
    a, b, c = sums.astype(jnp.int32)
    rounded = ((a << 16) + (b << 8) + c + (1 << BITS - 1)) >> BITS
    return jnp.clip(rounded, 0, 255).astype(jnp.float32)
