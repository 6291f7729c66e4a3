"""CLIP (Radford et al. 2021) as in transformers' `CLIPModel`: an image tower and a text tower.

Nothing is computed that the pooled token does not depend on: in the last layer it alone asks.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import CLIPConfig
from mer_jax.models.attention import attention
from mer_jax.models.clip_weights import RULES
from mer_jax.models.layers import ACTIVATIONS, LayerNorm, in_float32, layer_at, materialise, unrolled
from mer_jax.models.port import Port
from mer_jax.runtime.array_types import Array, Bool, Float, Int
from mer_jax.runtime.errors import DataError

# x sigmoid(1.702 x), by a tanh, which is the cheaper one in bfloat16.
quick_gelu = in_float32(lambda x: 0.5 * x * (1 + jnp.tanh(0.851 * x)))

CLIP_ACTIVATIONS = ACTIVATIONS | {"quick_gelu": quick_gelu}

TowerConfig = Any  # CLIPVisionConfig or CLIPTextConfig, whose fields are typed too loosely for a type checker

# Before transformers 4.31 every CLIP config said 2, whatever the vocabulary's end token was.
LEGACY_EOS_TOKEN_ID = 2


def linear(inputs: int, outputs: int, std: float, *, bias: bool = True, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=nnx.initializers.normal(std), rngs=rngs)


def append(x: Float[Array, "B T ..."], more: Float[Array, "#B S ..."]) -> Float[Array, "B T+S ..."]:
    """`more`, which all rows may share, after `x`."""
    return jnp.concatenate([x, jnp.broadcast_to(more, (len(x), *more.shape[1:])).astype(x.dtype)], axis=1)


class SelfAttention(nnx.Module):
    def __init__(self, config: TowerConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        width = config.hidden_size
        std = (2 * width * config.num_hidden_layers) ** -0.5
        self.num_heads = config.num_attention_heads
        self.impl = impl
        self.query, self.key, self.value = (linear(width, width, std, rngs=rngs) for _ in range(3))
        self.out = linear(width, width, width**-0.5, rngs=rngs)

    def heads(self, projection: nnx.Linear, x: Float[Array, "B T D"]) -> Float[Array, "B T N H"]:
        return projection(x).reshape(*x.shape[:2], self.num_heads, -1)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Float[Array, "#B S D"] | None = None,
        mask: Bool[Array, "..."] | None = None,
        causal: bool = False,
    ) -> Float[Array, "B T D"]:
        q, k, v = (self.heads(projection, x) for projection in (self.query, self.key, self.value))
        if context is not None:
            k, v = append(k, self.heads(self.key, context)), append(v, self.heads(self.value, context))
        return self.out(attention(q, k, v, mask=mask, causal=causal, impl=self.impl).reshape(x.shape))


class Mlp(nnx.Module):
    def __init__(self, config: TowerConfig, inner: int, *, rngs: nnx.Rngs):
        if config.hidden_act not in CLIP_ACTIVATIONS:
            raise DataError(f"hidden_act={config.hidden_act!r}; expected one of {', '.join(CLIP_ACTIVATIONS)}")
        width = config.hidden_size
        self.activation = config.hidden_act
        self.fc_1 = linear(width, inner, (2 * width) ** -0.5, rngs=rngs)
        std = (2 * width * config.num_hidden_layers) ** -0.5
        self.fc_2 = linear(inner, width, std, rngs=rngs)

    @jax.named_scope("mlp")
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.fc_2(materialise(CLIP_ACTIVATIONS[self.activation](self.fc_1(x))))


class Layer(nnx.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: TowerConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        self.ln_1 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = SelfAttention(config, impl, rngs=rngs)
        self.ln_2 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = self.feed_forward(config, rngs=rngs)

    @staticmethod
    def feed_forward(config: TowerConfig, *, rngs: nnx.Rngs) -> Any:
        return Mlp(config, config.intermediate_size, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        context: Float[Array, "#B S D"] | None = None,
        mask: Bool[Array, "..."] | None = None,
        causal: bool = False,
    ) -> Float[Array, "B T D"]:
        """Every token of `x` attends to `x` and `context` where the mask (broadcastable to [B, N, T, T + S]) allows.

        causal: without context, to no later token.
        """
        x = x + self.attention(self.ln_1(x), None if context is None else self.ln_1(context), mask, causal)
        return x + self.mlp(self.ln_2(x))


def stacked_layers(config: TowerConfig, impl: str, layer: type[Layer] = Layer, *, rngs: nnx.Rngs) -> Layer:
    """All layers of a tower as one whose variables have the layer on the leading axis."""
    keys = jax.random.split(rngs.params(), config.num_hidden_layers)
    return jax.vmap(lambda key: layer(config, impl, rngs=nnx.Rngs(key)))(keys)


def num_layers(layers: Layer) -> int:
    """Of a stack."""
    return layers.ln_1.scale.shape[0]


def run_layers(layers: Layer, x: Float[Array, "B T D"], causal: bool = False) -> Float[Array, "B T D"]:
    """What the last of a tower's stacked layers sees. causal: no token attends to a later one."""

    def step(x: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        return layer_at(layers, index)(x, causal=causal), None

    return jax.lax.scan(step, x, jnp.arange(num_layers(layers) - 1), unroll=unrolled(x, 4))[0]


def patch_vectors(
    pixels: Float[Array, "B S S 3"], kernel: Float[Array, "patch patch 3 D"]
) -> Float[Array, "B patches D"]:
    """Square images' patches, row by row, each times the kernel; what is left at the right and below is dropped."""
    patch, _, channels, width = kernel.shape
    rows = pixels.shape[1] // patch
    x = pixels[:, : rows * patch, : rows * patch].astype(kernel.dtype)
    x = x.reshape(-1, rows, patch, rows, patch, channels).swapaxes(2, 3)  # [B, rows, columns, patch, patch, 3]
    # One matrix product: as a convolution it takes 1.7 times as long on a CPU.
    return x.reshape(len(x), rows**2, -1) @ kernel.reshape(-1, width)


class VisionTower(nnx.Module):
    """Images -> projected class token."""

    def __init__(self, config: TowerConfig, projection_dim: int, impl: str, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        self.image_size = config.image_size
        self.class_embedding = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (width,)))
        normal = nnx.initializers.normal(0.02)
        self.patch_embedding = nnx.Param(normal(rngs.params(), (patch, patch, config.num_channels, width)))
        positions = (config.image_size // patch) ** 2 + 1
        self.position_embedding = nnx.Param(normal(rngs.params(), (positions, width)))
        self.ln_pre = LayerNorm(width, config.layer_norm_eps)
        self.layers = stacked_layers(config, impl, rngs=rngs)
        self.ln_post = LayerNorm(width, config.layer_norm_eps)
        self.projection = linear(width, projection_dim, width**-0.5, bias=False, rngs=rngs)

    def embed(self, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B T D"]:
        """The class token and the patches, as the first layer sees them."""
        if pixels.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"pixels {pixels.shape}: expected [B, {self.image_size}, {self.image_size}, 3]")
        x = patch_vectors(pixels, self.patch_embedding[...])  # [B, patches, D]
        first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[-1]))
        return self.ln_pre(jnp.concatenate([first, x], axis=1) + self.position_embedding[...])

    def pool(self, x: Float[Array, "B T D"]) -> Float[Array, "B P"]:
        """What the last layer sees -> the projected class token."""
        x = layer_at(self.layers, -1)(x[:, :1], x[:, 1:])
        return self.projection(self.ln_post(x[:, 0]))

    def __call__(self, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B P"]:
        return self.pool(run_layers(self.layers, self.embed(pixels)))


class TextTower(nnx.Module):
    """Token ids -> projected end token."""

    def __init__(self, config: TowerConfig, projection_dim: int, impl: str, *, rngs: nnx.Rngs):
        width = config.hidden_size
        normal = nnx.initializers.normal(0.02)
        self.eos_token_id = config.eos_token_id
        self.token_embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, width)))
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.max_position_embeddings, width)))
        self.layers = stacked_layers(config, impl, rngs=rngs)
        self.ln_final = LayerNorm(width, config.layer_norm_eps)
        self.projection = linear(width, projection_dim, width**-0.5, bias=False, rngs=rngs)

    def positions(self, length: int) -> Int[Array, "T"]:
        """0, 1, ... of `length` tokens; ValueError if the model has fewer."""
        available = self.position_embedding.shape[0]
        if length > available:
            raise ValueError(f"{length} tokens, but the model has {available} positions")
        return jnp.arange(length)

    def embed(self, token_ids: Int[Array, "B T"], position: Int[Array, "T"]) -> Float[Array, "B T D"]:
        """The tokens at their positions, as the first layer sees them."""
        return self.token_embedding[token_ids] + self.position_embedding[position]

    def pool(
        self, x: Float[Array, "B S D"], token_ids: Int[Array, "B T"], position: Int[Array, "S"]
    ) -> Float[Array, "B P"]:
        """What the last layer sees, `token_ids` first, and where its tokens stand -> the projected end tokens."""
        if self.eos_token_id == LEGACY_EOS_TOKEN_ID:
            end = jnp.argmax(token_ids, axis=1)  # the end token has the highest id
        else:
            end = jnp.argmax(token_ids == self.eos_token_id, axis=1)  # the first one; the rest is padding
        last = jnp.take_along_axis(x, end[:, None, None], axis=1)  # [B, 1, D]
        seen = jnp.pad(position < position[end, None], ((0, 0), (1, 0)), constant_values=True)  # [B, 1 + S]
        last = layer_at(self.layers, -1)(last, x, seen[:, None, None])
        return self.projection(self.ln_final(last[:, 0]))

    def __call__(self, token_ids: Int[Array, "B T"]) -> Float[Array, "B P"]:
        position = self.positions(token_ids.shape[1])
        x = run_layers(self.layers, self.embed(token_ids, position), causal=True)
        return self.pool(x, token_ids, position)


class CLIP(Port):
    """Image and text encoder with a shared embedding space of width P = `config.projection_dim`.

    `logit_scale` is NaN where a checkpoint lacks it, which embeddings do without.

    Args:
        config: `CLIPConfig`; image size and patch size are single numbers, as in all published checkpoints.
        attention_impl: see `mer_jax.models.attention`.
        rngs: random float32 weights, scaled as transformers does.
    """

    configs: ClassVar[Mapping[str, Any]] = {"clip": CLIPConfig}
    rules = staticmethod(lambda config: RULES)
    default_dtype = jnp.bfloat16

    def __init__(self, config: Any, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        vision = config.vision_config
        if (channels := vision.num_channels) != 3:
            raise DataError(f"config.json asks for num_channels={channels}; frames have 3 (RGB)")
        super().__init__(config)
        width = config.projection_dim
        self.vision = VisionTower(vision, width, attention_impl, rngs=rngs)
        self.text = TextTower(config.text_config, width, attention_impl, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(config.logit_scale_init_value))

    def encode_image(self, pixels: Float[Array | np.ndarray, "B H W 3"]) -> Float[Array, "B P"]:
        """Pixels, normalised with CLIP's mean and standard deviation -> embeddings, not L2-normalised."""
        return self.vision(jnp.asarray(pixels))

    def encode_text(self, token_ids: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B P"]:
        """Token ids, each row up to its end token and anything after -> embeddings, not L2-normalised."""
        return self.text(jnp.asarray(token_ids))
