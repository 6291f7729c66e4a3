"""CLIP (Radford et al. 2021) as in transformers' `CLIPModel`: an image tower and a text tower.

Both towers take learnable prompt tokens per layer, which is all that EmoVCLIP adds to them. Nothing is computed that
the pooled token does not depend on: in the last layer it alone asks, and prompts that the next layer replaces are only
keys and values.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike, DTypeLike
from transformers import CLIPConfig

from mer_jax.checkpoints.huggingface import fetch, load_pretrained, read_config, save_pretrained
from mer_jax.models import activations
from mer_jax.models.attention import Implementation, attention
from mer_jax.models.clip_weights import RULES
from mer_jax.models.norms import LayerNorm
from mer_jax.runtime.errors import DataError

ACTIVATIONS = activations.ACTIVATIONS | {"quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x)}

TowerConfig = Any  # CLIPVisionConfig or CLIPTextConfig, whose fields are typed too loosely for a type checker

# Before transformers 4.31 every CLIP config said 2, whatever the vocabulary's end token was.
LEGACY_EOS_TOKEN_ID = 2


def linear(inputs: int, outputs: int, std: float, *, bias: bool = True, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=nnx.initializers.normal(std), rngs=rngs)


def append(x: jax.Array, more: jax.Array) -> jax.Array:
    """[B, T, ...] and [B or 1, S, ...] -> [B, T + S, ...]"""
    return jnp.concatenate([x, jnp.broadcast_to(more, (len(x), *more.shape[1:])).astype(x.dtype)], axis=1)


class SelfAttention(nnx.Module):
    def __init__(self, config: TowerConfig, impl: Implementation = "xla", *, rngs: nnx.Rngs):
        width = config.hidden_size
        std = (2 * width * config.num_hidden_layers) ** -0.5
        self.num_heads = config.num_attention_heads
        self.impl = impl
        self.query = linear(width, width, std, rngs=rngs)
        self.key = linear(width, width, std, rngs=rngs)
        self.value = linear(width, width, std, rngs=rngs)
        self.out = linear(width, width, width**-0.5, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        def heads(projection: nnx.Linear, y: jax.Array) -> jax.Array:
            return projection(y).reshape(*y.shape[:2], self.num_heads, -1)  # [B, T, N, H]

        q, k, v = (heads(projection, x) for projection in (self.query, self.key, self.value))
        if context is not None:
            k, v = append(k, heads(self.key, context)), append(v, heads(self.value, context))
        return self.out(attention(q, k, v, mask=mask, impl=self.impl).reshape(x.shape))


class Mlp(nnx.Module):
    def __init__(self, config: TowerConfig, *, rngs: nnx.Rngs):
        if config.hidden_act not in ACTIVATIONS:
            raise DataError(f"hidden_act={config.hidden_act!r}; expected one of {', '.join(ACTIVATIONS)}")
        width = config.hidden_size
        self.activation = config.hidden_act
        self.fc_1 = linear(width, config.intermediate_size, (2 * width) ** -0.5, rngs=rngs)
        std = (2 * width * config.num_hidden_layers) ** -0.5
        self.fc_2 = linear(config.intermediate_size, width, std, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc_2(activations.materialise(ACTIVATIONS[self.activation](self.fc_1(x))))


class Layer(nnx.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: TowerConfig, impl: Implementation = "xla", *, rngs: nnx.Rngs):
        self.ln_1 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = SelfAttention(config, impl, rngs=rngs)
        self.ln_2 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = Mlp(config, rngs=rngs)

    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | None = None) -> jax.Array:
        """[B, T, D] -> [B, T, D], every token of x attending to x and to context.

        context: [B, S, D], or [1, S, D] that all rows share. mask: bool, broadcastable to [B, N, T, T + S].
        """
        x = x + self.attention(self.ln_1(x), None if context is None else self.ln_1(context), mask)
        return x + self.mlp(self.ln_2(x))


def stacked_layers(config: TowerConfig, impl: Implementation, *, rngs: nnx.Rngs) -> Layer:
    """All layers of a tower as one `Layer` whose variables have the layer on the leading axis."""
    keys = jax.random.split(rngs.params(), config.num_hidden_layers)
    return jax.vmap(lambda key: Layer(config, impl, rngs=nnx.Rngs(key)))(keys)


def layer_at(layers: Layer, index: ArrayLike) -> Layer:
    """One of the stacked layers."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), layers)


def in_parts(apply: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    """Applies a layer to `size` rows of x [B, ...] after the other, 0: to all, where all do not fit on a TPU's chip."""
    size = size or len(x)
    return jnp.concatenate([apply(x[start : start + size]) for start in range(0, len(x), size)])


def run_layers(
    layers: Layer,
    x: jax.Array,
    *,
    prompts: jax.Array | None = None,
    mask: jax.Array | None = None,
    remat: bool = False,
    at_once: int = 0,
) -> jax.Array:
    """What the last of a tower's stacked layers sees, [B, T, D] -> [B, T + K, D], prompts last.

    prompts [depth, K, D]: those of layer i follow the tokens in layer i; the last ones are tokens from there on.
    mask: bool [T + K, T + K], False hides a key (column) from a query (row).
    remat: keep only the layers' inputs for the backward pass; otherwise the results of the linear maps as well,
        but not attention's logits, which take the more memory and the less work.
    at_once: rows that go through a layer at a time; 0: all.
    """

    def step(x: jax.Array, inputs: tuple[jax.Array, jax.Array | None]) -> tuple[jax.Array, None]:
        index, prompt = inputs
        seen = None if mask is None else mask[: x.shape[1]]
        layer = layer_at(layers, index)
        return in_parts(lambda part: layer(part, prompt, seen), x, at_once), None

    checkpoint = partial(
        jax.checkpoint, policy=None if remat else jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    )
    # Inside a scan XLA cannot undo the recomputation, so its guard against that is not needed.
    looped = checkpoint(step, prevent_cse=False)
    first, last = 0, len(jax.tree.leaves(layers)[0]) - 1
    if prompts is not None:
        own, first = prompts[:-1, None].astype(x.dtype), len(prompts) - 1  # [depth - 1, 1, K, D]
        if first:
            x = checkpoint(step)(x, (0, own[0]))[0]  # no part of the loop, which would want gradients of its tokens
        x = jax.lax.scan(looped, x, (jnp.arange(1, first), own[1:]))[0]
        x = append(x, prompts[-1:])
    # The stack is indexed, not cut in slices, which would copy the weights.
    return jax.lax.scan(looped, x, (jnp.arange(first, last), None))[0]


class VisionTower(nnx.Module):
    """Images -> projected class token."""

    def __init__(self, config: TowerConfig, projection_dim: int, impl: Implementation, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        self.image_size = config.image_size
        self.class_embedding = nnx.Param(nnx.initializers.normal(width**-0.5)(rngs.params(), (width,)))
        normal = nnx.initializers.normal(0.02)
        self.patch_embedding = nnx.Param(normal(rngs.params(), (patch, patch, config.num_channels, width)))
        positions = (config.image_size // patch) ** 2 + 1
        self.position_embedding = nnx.Param(normal(rngs.params(), (positions, width)))
        self.ln_pre = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = stacked_layers(config, impl, rngs=rngs)
        self.ln_post = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.projection = linear(width, projection_dim, width**-0.5, bias=False, rngs=rngs)

    def embed(self, pixels: jax.Array) -> jax.Array:
        """[B, H, W, 3] -> [B, 1 + patches, D]"""
        if pixels.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"pixels {pixels.shape}: expected [B, {self.image_size}, {self.image_size}, 3]")
        patch, _, channels, width = self.patch_embedding.shape
        rows = self.image_size // patch
        x = pixels[:, : rows * patch, : rows * patch].astype(self.class_embedding.dtype)
        x = x.reshape(-1, rows, patch, rows, patch, channels).swapaxes(2, 3)  # [B, rows, columns, patch, patch, 3]
        # One matrix product: as a convolution it takes 1.7 times as long on a CPU.
        x = x.reshape(len(x), rows**2, -1) @ self.patch_embedding.reshape(-1, width)  # [B, patches, D]
        first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[-1]))
        return self.ln_pre(jnp.concatenate([first, x], axis=1) + self.position_embedding[...])

    def embed_prompts(self, prompts: jax.Array) -> jax.Array:
        """[depth, K, D], as the layers see them: those of layer 0 are normalised like patches, but have no position."""
        return prompts.at[0].set(self.ln_pre(prompts[0].astype(self.class_embedding.dtype)))

    def __call__(
        self, pixels: jax.Array, *, prompts: jax.Array | None = None, remat: bool = False, at_once: int = 0
    ) -> jax.Array:
        """[B, H, W, 3], prompts [depth, K, D] -> [B, P]. remat, at_once: see run_layers."""
        x = self.embed(pixels)
        prompts = None if prompts is None else self.embed_prompts(prompts)
        x = run_layers(self.layers, x, prompts=prompts, remat=remat, at_once=at_once)
        x = layer_at(self.layers, -1)(x[:, :1], x[:, 1:])
        return self.projection(self.ln_post(x[:, 0]))


class TextTower(nnx.Module):
    """Token ids -> projected end token."""

    def __init__(self, config: TowerConfig, projection_dim: int, impl: Implementation, *, rngs: nnx.Rngs):
        width = config.hidden_size
        normal = nnx.initializers.normal(0.02)
        self.eos_token_id = config.eos_token_id
        self.token_embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, width)))
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.max_position_embeddings, width)))
        self.layers = stacked_layers(config, impl, rngs=rngs)
        self.ln_final = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.projection = linear(width, projection_dim, width**-0.5, bias=False, rngs=rngs)

    def positions(self, length: int, num_prompts: int = 0) -> jax.Array:
        """Where `length` tokens and the prompts, listed last, stand: [L + K] int32, prompts after the start token."""
        if length + num_prompts > self.position_embedding.shape[0]:
            raise ValueError(
                f"{length + num_prompts} tokens, but the model has {self.position_embedding.shape[0]} positions"
            )
        start, prompts, rest = jnp.split(jnp.arange(length + num_prompts), (1, 1 + num_prompts))
        return jnp.concatenate([start, rest, prompts])

    def embed(self, token_ids: jax.Array, num_prompts: int = 0) -> jax.Array:
        """[B, L] -> [B, L, D], leaving the positions 1..K to prompts."""
        length = token_ids.shape[1]
        return self.token_embedding[token_ids] + self.position_embedding[self.positions(length, num_prompts)[:length]]

    def embed_prompts(self, prompts: jax.Array) -> jax.Array:
        """[depth, K, D], as the layers see them: those of layer 0 get their positions."""
        return prompts.at[0].add(self.position_embedding[1 : 1 + prompts.shape[1]])

    def __call__(self, token_ids: jax.Array, *, prompts: jax.Array | None = None, remat: bool = False) -> jax.Array:
        """[B, L] int32, prompts [depth, K, D] -> [B, P]; the prompts stand after the start token."""
        length, num_prompts = token_ids.shape[1], 0 if prompts is None else prompts.shape[1]
        position = self.positions(length, num_prompts)  # [L + K]
        x = self.embed(token_ids, num_prompts)
        prompts = None if prompts is None else self.embed_prompts(prompts)
        x = run_layers(self.layers, x, prompts=prompts, mask=position <= position[:, None], remat=remat)
        if self.eos_token_id == LEGACY_EOS_TOKEN_ID:
            end = jnp.argmax(token_ids, axis=1)  # the end token has the highest id
        else:
            end = jnp.argmax(token_ids == self.eos_token_id, axis=1)  # the first one; the rest is padding
        last = jnp.take_along_axis(x, end[:, None, None], axis=1)  # [B, 1, D]
        seen = jnp.pad(position < position[end, None], ((0, 0), (1, 0)), constant_values=True)  # [B, 1 + L + K]
        last = layer_at(self.layers, -1)(last, x, seen[:, None, None])
        return self.projection(self.ln_final(last[:, 0]))


class CLIP(nnx.Module):
    """Image and text encoder with a shared embedding space of width P = `config.projection_dim`.

    Args:
        config: image size and patch size are single numbers, as in all published checkpoints.
        attention_impl: see `mer_jax.models.attention`.
        rngs: random float32 weights, scaled as transformers does.
    """

    def __init__(self, config: CLIPConfig, *, attention_impl: Implementation = "xla", rngs: nnx.Rngs):
        self.config_json = config.to_json_string()  # jit needs hashable attributes, a config is none
        width: Any = config.projection_dim
        self.vision = VisionTower(config.vision_config, width, attention_impl, rngs=rngs)
        self.text = TextTower(config.text_config, width, attention_impl, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.float32(config.logit_scale_init_value))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        dtype: DTypeLike = jnp.bfloat16,
        mesh: Mesh | None = None,
        *,
        attention_impl: Implementation = "xla",
    ) -> Self:
        """Loads a folder in Hugging Face layout, or a hub id ("openai/clip-vit-large-patch14").

        Weights and activations are in `dtype`, softmax, norm statistics and `logit_scale` in float32. The
        weights are replicated over `mesh`. For the errors see `load_pretrained`.
        """
        folder = fetch(source)
        config = read_config(folder, {"clip": CLIPConfig})
        return load_pretrained(
            lambda: cls(config, attention_impl=attention_impl, rngs=nnx.Rngs(0)), RULES, folder, dtype, mesh
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a folder that transformers' `CLIPModel` reads."""
        save_pretrained(self, RULES, CLIPConfig.from_dict(json.loads(self.config_json)), folder)

    def encode_image(self, pixels: jax.Array) -> jax.Array:
        """[B, H, W, 3], normalised with CLIP's mean and standard deviation -> [B, P], not L2-normalised."""
        return self.vision(pixels)

    def encode_text(self, token_ids: jax.Array) -> jax.Array:
        """[B, L] int32, each row up to its end token and anything after -> [B, P], not L2-normalised."""
        return self.text(token_ids)
