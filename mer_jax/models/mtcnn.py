"""MTCNN's networks (Zhang et al. 2016): P-Net proposes faces, R-Net refines them, O-Net adds five landmarks.

As in the PyPI package `mtcnn` 1.0.0 (mtcnn/network/*.py). Pixels are (rgb - 127.5) / 128. Scores are the
probability of a face. A box offset is (dx1, dy1, dx2, dy2) in units of the box's width and height. Landmarks
are five x, then five y, in those units from the box's corner: left eye, right eye, nose, left and right mouth
corner.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx

from mer_jax.runtime.array_types import Array, Float

Conv = partial(nnx.Conv, padding="VALID")


class PReLU(nnx.Module):
    """A ReLU whose slope below zero is learnt per channel."""

    def __init__(self, channels: int):
        self.slope = nnx.Param(jnp.full(channels, 0.25))

    def __call__(self, x: Float[Array, "*B F"]) -> Float[Array, "*B F"]:
        return jnp.where(x > 0, x, self.slope[...] * x)


def blocks(x: Float[Array, "B H W ..."], rows: int, columns: int) -> Float[Array, "B H//{rows} W//{columns} channels"]:
    """Each block of `rows` x `columns` pixels as one pixel of that many times the channels."""
    batch, height, width, *_ = x.shape
    x = x.reshape(batch, height // rows, rows, width // columns, columns, -1).swapaxes(2, 3)
    return x.reshape(batch, height // rows, width // columns, -1)


def conv_in_blocks(conv: nnx.Conv, x: Float[Array, "B H W C"], rows: int) -> Float[Array, "B h W//2-1 pixels F"]:
    """A 3x3 convolution in blocks of `rows` (1 or 2) x 2 pixels, whose results have an axis of their own.

    That takes 4/3 or 16/9 of the products, and on a CPU a third of the time where channels are few. H and W are even
    (with one row, W alone).
    """
    assert conv.bias is not None
    kernel = conv.kernel[...]  # [3, 3, C, F]
    corners = [(top, left) for top in range(rows) for left in range(2)]
    shifts = [((top, rows - 1 - top), (left, 1 - left), (0, 0), (0, 0)) for top, left in corners]
    shifted = jnp.stack([jnp.pad(kernel, shift) for shift in shifts], axis=-2)  # [2 + rows, 4, C, pixels, F]
    filters = blocks(shifted[None], rows, 2)[0].reshape((2 + rows) // rows, 2, 2 * rows * x.shape[-1], -1)
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(blocks(x, rows, 2), filters, (1, 1), "VALID", dimension_numbers=layout)
    return y.reshape(*y.shape[:3], 2 * rows, -1) + conv.bias[...]


def conv_in_pairs(conv: nnx.Conv, x: Float[Array, "B H W C"]) -> Float[Array, "B H-2 W-2 F"]:
    """A 3x3 convolution, two neighbouring columns at once."""
    width = x.shape[2]
    y = conv_in_blocks(conv, jnp.pad(x, ((0, 0), (0, 0), (0, width % 2), (0, 0))), rows=1)
    return y.reshape(*y.shape[:2], -1, y.shape[-1])[:, :, : width - 2]


def max_pool(x: Float[Array, "B H W F"], window: int) -> Float[Array, "B h w F"]:
    """The largest in windows 2 apart; a last one that reaches over the edge counts as well."""
    for axis in (1, 2):
        count = -(-(x.shape[axis] - window) // 2) + 1
        beyond = [(0, 0)] * 4
        beyond[axis] = (0, 2 * (count - 1) + window - x.shape[axis])
        x = jnp.pad(x, beyond, constant_values=-jnp.inf)
        shifted = [jax.lax.slice_in_dim(x, k, k + 2 * count - 1, 2, axis) for k in range(window)]
        x = reduce(jnp.maximum, shifted)
    return x


def face_probability(logits: Float[Array, "*B 2"]) -> Float[Array, "*B"]:
    """From the logits of no face and face."""
    return jax.nn.sigmoid(logits[..., 1] - logits[..., 0])


class PNet(nnx.Module):
    """Fully convolutional: each output cell looks at one 12x12 window, windows are 2 pixels apart."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1, self.prelu1 = Conv(3, 10, (3, 3), rngs=rngs), PReLU(10)
        self.conv2, self.prelu2 = Conv(10, 16, (3, 3), rngs=rngs), PReLU(16)
        self.conv3, self.prelu3 = Conv(16, 32, (3, 3), rngs=rngs), PReLU(32)
        self.box = Conv(32, 4, (1, 1), rngs=rngs)
        self.face = Conv(32, 2, (1, 1), rngs=rngs)

    def __call__(
        self, pixels: Float[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B H//2-5 W//2-5"], Float[Array, "B H//2-5 W//2-5 4"]]:
        """Scores and box offsets; H and W are even."""
        squares = self.prelu1(conv_in_blocks(self.conv1, pixels, rows=2))
        x = reduce(jnp.maximum, jnp.moveaxis(squares, 3, 0))  # [B, (H - 2) / 2, (W - 2) / 2, F]
        x = self.prelu2(conv_in_pairs(self.conv2, x))
        x = self.prelu3(self.conv3(x))
        kernels = [head.kernel[...][0, 0] for head in (self.face, self.box)]  # 1x1: both heads in one product
        biases = [head.bias[...] for head in (self.face, self.box) if head.bias is not None]
        y = x @ jnp.concatenate(kernels, axis=1) + jnp.concatenate(biases)
        return face_probability(y[..., :2]), y[..., 2:]


class RNet(nnx.Module):
    """Judges 24x24 crops of P-Net's boxes."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1, self.prelu1 = Conv(3, 28, (3, 3), rngs=rngs), PReLU(28)
        self.conv2, self.prelu2 = Conv(28, 48, (3, 3), rngs=rngs), PReLU(48)
        self.conv3, self.prelu3 = Conv(48, 64, (2, 2), rngs=rngs), PReLU(64)
        self.dense, self.prelu4 = nnx.Linear(3 * 3 * 64, 128, rngs=rngs), PReLU(128)
        self.box = nnx.Linear(128, 4, rngs=rngs)
        self.face = nnx.Linear(128, 2, rngs=rngs)

    def __call__(self, crops: Float[Array, "B 24 24 3"]) -> tuple[Float[Array, "B"], Float[Array, "B 4"]]:
        """Scores and box offsets."""
        x = max_pool(self.prelu1(conv_in_pairs(self.conv1, crops)), 3)  # [B, 11, 11, 28]
        x = max_pool(self.prelu2(self.conv2(x)), 3)  # [B, 4, 4, 48]
        x = self.prelu3(self.conv3(x))  # [B, 3, 3, 64]
        x = self.prelu4(self.dense(x.reshape(len(x), -1)))
        return face_probability(self.face(x)), self.box(x)


class ONet(nnx.Module):
    """Judges 48x48 crops of R-Net's boxes and finds the landmarks."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1, self.prelu1 = Conv(3, 32, (3, 3), rngs=rngs), PReLU(32)
        self.conv2, self.prelu2 = Conv(32, 64, (3, 3), rngs=rngs), PReLU(64)
        self.conv3, self.prelu3 = Conv(64, 64, (3, 3), rngs=rngs), PReLU(64)
        self.conv4, self.prelu4 = Conv(64, 128, (2, 2), rngs=rngs), PReLU(128)
        self.dense, self.prelu5 = nnx.Linear(3 * 3 * 128, 256, rngs=rngs), PReLU(256)
        self.box = nnx.Linear(256, 4, rngs=rngs)
        self.landmarks = nnx.Linear(256, 10, rngs=rngs)
        self.face = nnx.Linear(256, 2, rngs=rngs)

    def __call__(
        self, crops: Float[Array, "B 48 48 3"]
    ) -> tuple[Float[Array, "B"], Float[Array, "B 4"], Float[Array, "B 10"]]:
        """Scores, box offsets and landmarks."""
        x = max_pool(self.prelu1(conv_in_pairs(self.conv1, crops)), 3)  # [B, 23, 23, 32]
        x = max_pool(self.prelu2(self.conv2(x)), 3)  # [B, 10, 10, 64]
        x = max_pool(self.prelu3(self.conv3(x)), 2)  # [B, 4, 4, 64]
        x = self.prelu4(self.conv4(x))  # [B, 3, 3, 128]
        x = self.prelu5(self.dense(x.reshape(len(x), -1)))
        return face_probability(self.face(x)), self.box(x), self.landmarks(x)


class MTCNN(nnx.Module):
    """The three networks; `mer_jax.models.face_cascade` runs them one after the other."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.pnet = PNet(rngs=rngs)
        self.rnet = RNet(rngs=rngs)
        self.onet = ONet(rngs=rngs)
