"""DINOv2 image encoders, base to giant (Oquab et al. 2023; transformers `Dinov2Model`).

As in CLIP, nothing is computed that the class token does not depend on: in the last layer it alone asks.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import Dinov2Config
from mer_jax.models.clip import Layer, Mlp, linear, patch_vectors, run_layers, stacked_layers
from mer_jax.models.dinov2_weights import rules
from mer_jax.models.layers import LayerNorm, layer_at, materialise
from mer_jax.models.port import Port
from mer_jax.runtime.array_types import Array, Bool, Float
from mer_jax.runtime.errors import DataError


def bicubic(source: int, size: int) -> Float[np.ndarray, "{size} {source}"]:
    """Weights of one axis, as torch's `interpolate` has them: a = -0.75, not widened, the border's pixels repeated."""

    def kernel(x: np.ndarray) -> np.ndarray:
        x, a = np.abs(x), -0.75
        near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    centres = (np.arange(size) + 0.5) * source / size - 0.5
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-1, 3)  # [size, 4]
    weights = np.zeros((size, source), np.float32)
    np.add.at(weights, (np.arange(size)[:, None], taps.clip(0, source - 1)), kernel(centres[:, None] - taps))
    return weights


class SwiGlu(nnx.Module):
    """The giant's feed-forward network."""

    def __init__(self, config: Any, *, rngs: nnx.Rngs):
        width = config.hidden_size
        inner = (int(int(width * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        self.fc_1 = linear(width, 2 * inner, (2 * width) ** -0.5, rngs=rngs)
        self.fc_2 = linear(inner, width, (2 * width) ** -0.5, rngs=rngs)

    @jax.named_scope("mlp")
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        gate, up = jnp.split(self.fc_1(x), 2, axis=-1)
        return self.fc_2(materialise(jax.nn.silu(gate) * up))


class ScaledLayer(Layer):
    """CLIP's, with a factor for each channel of what either half adds."""

    def __init__(self, config: Any, impl: str = "auto", *, rngs: nnx.Rngs):
        super().__init__(config, impl, rngs=rngs)
        self.scale_1, self.scale_2 = (nnx.Param(jnp.full(config.hidden_size, 1.0)) for _ in range(2))

    @staticmethod
    def feed_forward(config: Any, *, rngs: nnx.Rngs) -> Any:
        if config.use_swiglu_ffn:
            return SwiGlu(config, rngs=rngs)
        return Mlp(config, int(config.hidden_size * config.mlp_ratio), rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Float[Array, "#B S D"] | None = None,
        mask: Bool[Array, "..."] | None = None,
        causal: bool = False,
    ) -> Float[Array, "B T D"]:
        context = None if context is None else self.ln_1(context)
        x = x + self.scale_1 * self.attention(self.ln_1(x), context, mask, causal)
        return x + self.scale_2 * self.mlp(self.ln_2(x))


class Dinov2(Port):
    """Image encoder.

    Args:
        config: image size and patch size are single numbers, as in all published checkpoints.
        attention_impl: see `mer_jax.models.attention`.

    Raises:
        DataError: the config asks for a variant that is not ported.
    """

    configs: ClassVar[Mapping[str, Any]] = {"dinov2": Dinov2Config}
    rules = staticmethod(rules)
    default_dtype = jnp.bfloat16

    def __init__(self, config: Any, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        for name, expected in (("num_channels", 3), ("qkv_bias", True)):
            if (value := getattr(config, name)) != expected:
                raise DataError(f"config.json asks for {name}={value}; supported is {expected}")
        super().__init__(config)
        width, patch, normal = config.hidden_size, config.patch_size, nnx.initializers.normal(0.02)
        self.class_embedding = nnx.Param(normal(rngs.params(), (1, 1, width)))
        self.patch_embedding = nnx.Param(normal(rngs.params(), (patch, patch, 3, width)))
        self.patch_bias = nnx.Param(jnp.zeros(width))
        positions = (config.image_size // patch) ** 2 + 1
        self.position_embedding = nnx.Param(normal(rngs.params(), (1, positions, width)))
        self.layers = stacked_layers(config, attention_impl, ScaledLayer, rngs=rngs)
        self.layer_norm = LayerNorm(width, config.layer_norm_eps)

    def positions(self, rows: int) -> Float[Array, "1 {rows}*{rows}+1 D"]:
        """Of the class token and of rows x rows patches, interpolated in float32 as transformers does."""
        first, patches = self.position_embedding[:, :1], self.position_embedding[:, 1:]
        side, width = round(patches.shape[1] ** 0.5), patches.shape[-1]
        if rows != side:
            weights = jnp.asarray(bicubic(side, rows))
            grid = patches.reshape(side, side, width).astype(jnp.float32)
            exact = jax.lax.Precision.HIGHEST
            grid = jnp.einsum("YH,XW,HWD->YXD", weights, weights, grid, precision=exact)
            patches = grid.reshape(1, rows**2, width).astype(patches.dtype)
        return jnp.concatenate([first, patches], axis=1)

    def embed(self, pixels: Float[Array, "B S S 3"]) -> Float[Array, "B T D"]:
        """The class token and the patches, as the first layer sees them."""
        x = patch_vectors(pixels, self.patch_embedding[...]) + self.patch_bias
        first = jnp.broadcast_to(self.class_embedding[...], (len(x), 1, x.shape[-1]))
        return jnp.concatenate([first, x], axis=1) + self.positions(round(x.shape[1] ** 0.5))

    def encode_image(self, pixels: Float[Array | np.ndarray, "B S S 3"]) -> Float[Array, "B D"]:
        """Square images of any size, normalised as its folder says -> the class tokens behind the last norm."""
        x = run_layers(self.layers, self.embed(jnp.asarray(pixels)))
        return self.layer_norm(layer_at(self.layers, -1)(x[:, :1], x[:, 1:])[:, 0])
