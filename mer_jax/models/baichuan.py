"""Baichuan 1 and 2 decoders, and the LLaMA family, which is the same block with other switches.

Sources: `modeling_baichuan.py` of the baichuan-inc repositories on the Hugging Face hub; transformers'
`LlamaModel`, `Qwen2Model` and `Qwen3Model`.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.defaults import KEEP_LAYERS
from mer_jax.models.attention import attention
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.models.baichuan_weights import rules
from mer_jax.models.layers import ACTIVATIONS, EncoderOutput, known_activation, materialise, scan_layers, with_last
from mer_jax.models.port import Port
from mer_jax.runtime.array_types import Array, Float, Float64, Int
from mer_jax.runtime.errors import DataError


def alibi_slopes(num_heads: int) -> Float64[np.ndarray, "{num_heads}"]:
    """One slope per head (Press et al. 2022).

    2^(-8i/n) for a power of two n; heads beyond the largest power of two take every other slope of the next.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-4.0 * np.arange(1, 2 * power + 1, 2) / power)
    return np.concatenate([slopes, between[: num_heads - power]])


def head_dim(config: Any) -> int:
    """H, which not every config names."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rotary_frequencies(config: Any) -> Float64[np.ndarray, "pairs"] | None:
    """Radians per position of each rotated pair of channels of a head; None for an ALiBi model.

    Raises:
        DataError: the config asks for a scaling other than LLaMA 3's, or turns a part of each head alone.
    """
    is_baichuan = config.model_type == "baichuan"
    if is_baichuan and config.max_position_embeddings is None:
        return None
    rope = {"rope_theta": 10_000.0} | (getattr(config, "rope_parameters", None) or {})
    if is_baichuan and rope != {"rope_theta": 10_000.0}:
        raise DataError(f"config.json asks for {rope}; Baichuan's own code has rope_theta 10000 and no rope_scaling")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        factor = rope["partial_rotary_factor"]
        raise DataError(f"config.json asks for partial_rotary_factor={factor}; supported is 1, the whole head")
    width = head_dim(config)
    frequencies = rope["rope_theta"] ** (-np.arange(0, width, 2) / width)
    kind = rope.get("rope_type", "default")
    if kind == "llama3":
        # Channels that turn often within the original context stay, slow ones are stretched, others blended.
        turns = frequencies * rope["original_max_position_embeddings"] / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0, 1)
        frequencies = frequencies * (keep + (1 - keep) / rope["factor"])
    elif kind != "default":
        raise DataError(f"config.json asks for rope_type={kind!r}; supported are 'default' and 'llama3'")
    return frequencies


def rotate(x: Float[Array, "B T N H"], angles: Float[Array, "T H//2"]) -> Float[Array, "B T N H"]:
    """Rotates channel h against channel h + H/2."""
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]  # [T, 1, H/2]
    first, second = jnp.split(x, 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


class SelfAttention(nnx.Module):
    """Causal attention; grouped key-value heads, biases and query-key norms where the config has them."""

    def __init__(self, config: Any, impl: str = "auto", *, rngs: nnx.Rngs):
        self.head_dim, self.impl = head_dim(config), impl
        width, num_heads = config.hidden_size, config.num_attention_heads
        query_width = num_heads * self.head_dim
        key_width = (getattr(config, "num_key_value_heads", None) or num_heads) * self.head_dim
        bias = getattr(config, "attention_bias", False)
        linear = partial(nnx.Linear, width, use_bias=bias or config.model_type == "qwen2", rngs=rngs)
        self.query, self.key, self.value = linear(query_width), linear(key_width), linear(key_width)
        self.out = nnx.Linear(query_width, width, use_bias=bias, rngs=rngs)
        norm = partial(nnx.RMSNorm, self.head_dim, epsilon=config.rms_norm_eps, rngs=rngs)
        self.query_norm = norm() if config.model_type == "qwen3" else None
        self.key_norm = norm() if config.model_type == "qwen3" else None

    def __call__(
        self, x: Float[Array, "B T D"], bias: Float[Array, "1 N T T"] | None, angles: Float[Array, "T pairs"] | None
    ) -> Float[Array, "B T D"]:
        heads = (*x.shape[:2], -1, self.head_dim)
        q, k, v = (project(x).reshape(heads) for project in (self.query, self.key, self.value))
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        x = attention(q, k, v, causal=True, bias=bias, impl=self.impl)  # [B, T, N, H]
        return self.out(x.reshape(*x.shape[:2], -1))


class FeedForward(nnx.Module):
    """SwiGLU."""

    def __init__(self, config: Any, *, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.activation = known_activation(config.hidden_act)
        linear = partial(nnx.Linear, use_bias=getattr(config, "mlp_bias", False), rngs=rngs)
        self.gate, self.up, self.down = linear(width, inner), linear(width, inner), linear(inner, width)

    @jax.named_scope("mlp")
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.down(materialise(ACTIVATIONS[self.activation](self.gate(x)) * self.up(x)))


class DecoderLayer(nnx.Module):
    def __init__(self, config: Any, impl: str = "auto", *, rngs: nnx.Rngs):
        self.attention_norm = nnx.RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps, rngs=rngs)
        self.attention = SelfAttention(config, impl, rngs=rngs)
        self.feed_forward_norm = nnx.RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps, rngs=rngs)
        self.feed_forward = FeedForward(config, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B T D"], bias: Float[Array, "1 N T T"] | None, angles: Float[Array, "T pairs"] | None
    ) -> Float[Array, "B T D"]:
        x = x + self.attention(self.attention_norm(x), bias, angles)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Baichuan(Port):
    """Causal language model as a text encoder.

    Args:
        config: `BaichuanConfig`, or transformers' `LlamaConfig`, `Qwen2Config` or `Qwen3Config`.
        lm_head: also hold the output head, for `logits`; features don't need it.
        attention_impl: see `mer_jax.models.attention`.

    Raises:
        DataError: the config asks for sliding-window attention, for attention to what follows or for an unknown rotary
            scaling.
    """

    configs: ClassVar[Mapping[str, Any]] = CONFIG_CLASSES
    rules = staticmethod(rules)
    prefixes = ("transformer.", "model.language_model.", "language_model.", "model.")  # the head's as well

    def __init__(self, config: Any, *, lm_head: bool = False, attention_impl: str = "auto", rngs: nnx.Rngs):
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise DataError("config.json asks for sliding-window attention, which is not supported")
        if not getattr(config, "is_causal", True):
            raise DataError("config.json asks for is_causal=false; supported is true, attention to what came before")
        super().__init__(config)
        self.tied_head = config.tie_word_embeddings
        self.norm_head = getattr(config, "norm_head", False)
        frequencies = rotary_frequencies(config)
        # Tuples: constants of the program, not weights.
        self.frequencies = None if frequencies is None else tuple(frequencies.tolist())
        self.slopes = tuple(alibi_slopes(config.num_attention_heads).tolist())
        normal = nnx.initializers.normal(config.hidden_size**-0.5)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.hidden_size)))
        keys = jax.random.split(rngs.params(), config.num_hidden_layers)
        self.layers = jax.vmap(lambda key: DecoderLayer(config, attention_impl, rngs=nnx.Rngs(key)))(keys)
        self.norm = nnx.RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps, rngs=rngs)
        head = partial(nnx.Linear, config.hidden_size, config.vocab_size, use_bias=False, rngs=rngs)
        self.lm_head = head() if lm_head and not self.tied_head else None

    def __call__(
        self,
        token_ids: Int[Array | np.ndarray, "B T"],
        lengths: Int[Array | np.ndarray, "B"],
        keep_layers: int = KEEP_LAYERS,
    ) -> EncoderOutput:
        """Encodes tokens; attention is causal, so right padding changes nothing before it.

        Args:
            token_ids: what follows a row's length may be any valid id.
            lengths: real tokens per row.
            keep_layers: how many of the last hidden states to return, the very last after the final norm.
        """
        positions = jnp.arange(token_ids.shape[1])
        distance = positions - positions[:, None]  # [T, S], key minus query
        angles = bias = None
        if self.frequencies is not None:
            angles = jnp.outer(positions, jnp.asarray(self.frequencies, jnp.float32))  # [T, H/2]
        else:
            # Baichuan 1 writes slope * key position: a constant per query apart, which softmax ignores.
            bias = (jnp.asarray(self.slopes, jnp.float32)[:, None, None] * distance)[None]  # [1, N, T, S]

        x = self.embedding[token_ids]  # [B, T, D]
        hidden_states = scan_layers(lambda layer, x: layer(x, bias, angles), self.layers, x, keep_layers)
        return EncoderOutput(with_last(self.norm, hidden_states), jnp.asarray(lengths))

    def logits(self, hidden: Float[Array | np.ndarray, "*B D"]) -> Float[Array, "*B vocabulary"]:
        """Next-token logits of the last hidden state; ValueError if the model was made without `lm_head=True`."""
        if self.tied_head:
            return jnp.asarray(hidden) @ self.embedding.T
        if self.lm_head is None:
            raise ValueError("this model was made without its output head; pass lm_head=True")
        kernel = self.lm_head.kernel[...]
        if self.norm_head:
            norm = jnp.linalg.norm(kernel.astype(jnp.float32), axis=0)
            kernel = (kernel / jnp.maximum(norm, 1e-12)).astype(kernel.dtype)
        return jnp.asarray(hidden) @ kernel
