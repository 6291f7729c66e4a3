"""HuBERT and wav2vec 2.0 speech encoders, base and large (Hsu et al. 2021; transformers `HubertModel`)."""

from collections.abc import Mapping
from functools import partial
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import HubertConfig
from mer_jax.defaults import KEEP_LAYERS
from mer_jax.models.attention import attention
from mer_jax.models.hubert_weights import rules
from mer_jax.models.layers import (
    ACTIVATIONS,
    EncoderOutput,
    LayerNorm,
    known_activation,
    materialise,
    read_once,
    scan_layers,
    with_last,
)
from mer_jax.models.port import Port
from mer_jax.runtime.array_types import Array, Bool, Float, Int, Shaped
from mer_jax.runtime.errors import DataError

SpeechConfig = Any  # HubertConfig, or one with its fields; typed too loosely for a type checker
CONV_NORM_EPS = 1e-5  # torch's default; transformers does not take it from the config


def length_mask(lengths: Int[Array, "B"], size: int) -> Bool[Array, "B {size}"]:
    """True at real positions."""
    return jnp.arange(size) < lengths[:, None]


class TimeNorm(nnx.Module):
    """GroupNorm with one group per channel: every channel is normalised over the clip's real frames."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> Float[Array, "B T D"]:
        mask = length_mask(lengths, x.shape[1])[..., None]  # [B, T, 1]
        total = partial(jnp.sum, axis=1, keepdims=True, where=mask)
        count = jnp.maximum(lengths, 1)[:, None, None]
        wide = x.astype(jnp.float32)
        mean = total(wide) / count  # [B, 1, D]
        variance = total(jnp.square(wide - mean)) / count
        normal = (wide - mean) * jax.lax.rsqrt(variance + CONV_NORM_EPS)
        return (normal * self.scale + self.bias).astype(x.dtype)


class ConvLayer(nnx.Module):
    """One strided convolution of the feature encoder: conv, norm (if any), activation."""

    def __init__(self, config: SpeechConfig, index: int, *, rngs: nnx.Rngs):
        inputs, channels = [1, *config.conv_dim][index : index + 2]
        self.kernel_size, self.stride = config.conv_kernel[index], config.conv_stride[index]
        self.activation = known_activation(config.feat_extract_activation)
        conv = partial(nnx.Conv, padding="VALID", use_bias=config.conv_bias, rngs=rngs)
        self.conv = conv(inputs, channels, self.kernel_size, self.stride)
        per_frame = config.feat_extract_norm == "layer"
        self.layer_norm = LayerNorm(channels, CONV_NORM_EPS) if per_frame else None
        self.time_norm = TimeNorm(channels) if index == 0 and not per_frame else None

    def frame_count(self, lengths: Int[Array, "*B"]) -> Int[Array, "*B"]:
        return jnp.maximum((lengths - self.kernel_size) // self.stride + 1, 0)

    def __call__(
        self, x: Float[Array, "B S inputs"], lengths: Int[Array, "B"]
    ) -> tuple[Float[Array, "B T D"], Int[Array, "B"]]:
        lengths = self.frame_count(lengths)
        if self.layer_norm is None:
            y = self.conv(x)
        elif x.shape[-1] == 1 and read_once(x):
            y = self.normalised(x, self.layer_norm)
        else:
            y = self.layer_norm(self.conv(x))
        if self.time_norm is not None:
            y = self.time_norm(y, lengths)
        return ACTIVATIONS[self.activation](y), lengths

    def normalised(self, x: Float[Array, "B S 1"], norm: LayerNorm) -> Float[Array, "B T D"]:
        """`norm(conv(x))` of the first convolution, whose output, the largest array of all, is not read for it.

        Weights without their mean over the channels give outputs without one, and the variance is a sum over pairs of
        the few samples that a frame sees.
        """
        kernel, bias = self.conv.kernel.astype(jnp.float32), self.conv.bias
        kernel -= kernel.mean(-1, keepdims=True)  # [taps, 1, D]
        conv = partial(jax.lax.conv_general_dilated, dimension_numbers=("NWC", "WIO", "NWC"))
        y = conv(x, kernel.astype(x.dtype), (self.stride,), "VALID", preferred_element_type=jnp.float32)
        end = self.stride * y.shape[1]
        seen = [x[:, tap : tap + end : self.stride].astype(jnp.float32) for tap in range(self.kernel_size)]
        weights = [*kernel[:, 0]]
        if bias is not None:
            centred = bias.astype(jnp.float32) - bias.astype(jnp.float32).mean()
            y, seen, weights = y + centred, [*seen, jnp.ones_like(seen[0])], [*weights, centred]
        variance = jnp.zeros_like(seen[0])
        for i, j in combinations_with_replacement(range(len(seen)), 2):
            variance += (1 + (i != j)) * (weights[i] * weights[j]).mean() * seen[i] * seen[j]
        return norm.scaled(y, jnp.maximum(variance, 0)).astype(x.dtype)


class FeatureEncoder(nnx.Module):
    """The convolutions that turn samples into frames, one each 20 ms with the usual strides."""

    def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
        self.layers = nnx.List([ConvLayer(config, index, rngs=rngs) for index in range(len(config.conv_dim))])

    def frame_count(self, lengths: Int[Array, "*B"]) -> Int[Array, "*B"]:
        """Number of samples -> number of frames that cover real samples only."""
        for layer in self.layers:
            lengths = layer.frame_count(lengths)
        return lengths

    @jax.named_scope("convolutions")
    def __call__(
        self, waveform: Shaped[Array, "B S"], lengths: Int[Array, "B"]
    ) -> tuple[Float[Array, "B T D"], Int[Array, "B"]]:
        """Samples, and how many are real -> features, and how many frames are real."""
        # In the weights' dtype, or float32 samples would turn a bfloat16 model into a float32 one.
        x = waveform.astype(self.layers[0].conv.kernel.dtype)[..., None]  # [B, S, 1]
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x, lengths


class FeatureProjection(nnx.Module):
    def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
        channels = config.conv_dim[-1]
        normalised = getattr(config, "feat_proj_layer_norm", True)  # not every config says so
        self.layer_norm = LayerNorm(channels, config.layer_norm_eps) if normalised else None
        self.projection = nnx.Linear(channels, config.hidden_size, rngs=rngs)

    def __call__(self, features: Float[Array, "B T channels"]) -> Float[Array, "B T D"]:
        if self.layer_norm is not None:
            features = self.layer_norm(features)
        return self.projection(features)


class PositionalConv(nnx.Module):
    """Relative positions from one wide grouped convolution, weight-normalised per kernel tap."""

    def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
        width, taps = config.hidden_size, config.num_conv_pos_embeddings
        self.groups = config.num_conv_pos_embedding_groups
        self.activation = known_activation(config.feat_extract_activation)
        shape = (taps, width // self.groups, width)
        self.weight_v = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape))
        self.weight_g = nnx.Param(jnp.linalg.norm(self.weight_v[...], axis=(1, 2), keepdims=True))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        v = self.weight_v.astype(jnp.float32)
        kernel = v * (self.weight_g / jnp.linalg.norm(v, axis=(1, 2), keepdims=True))
        padding = [(len(kernel) // 2, (len(kernel) - 1) // 2)]
        conv = partial(jax.lax.conv_general_dilated, dimension_numbers=("NWC", "WIO", "NWC"))
        x = conv(x, kernel.astype(x.dtype), (1,), padding, feature_group_count=self.groups)
        return ACTIVATIONS[self.activation](x + self.bias)


class SelfAttention(nnx.Module):
    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.num_heads, self.impl = config.num_attention_heads, impl
        self.query, self.key, self.value, self.out = (nnx.Linear(width, width, rngs=rngs) for _ in range(4))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        lengths: Int[Array, "B"] | None = None,
        bias: Float[Array, "#B N T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        heads = (*x.shape[:2], self.num_heads, -1)
        q, k, v = (project(x).reshape(heads) for project in (self.query, self.key, self.value))
        return self.out(attention(q, k, v, lengths=lengths, bias=bias, impl=self.impl).reshape(x.shape))


class EncoderLayer(nnx.Module):
    """One transformer layer. `do_stable_layer_norm` puts the norms before attention and MLP, else after."""

    attention_class: ClassVar[type[SelfAttention]] = SelfAttention

    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        self.norm_first = getattr(config, "do_stable_layer_norm", False)
        self.activation = known_activation(config.hidden_act)
        self.attention = self.attention_class(config, impl, rngs=rngs)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.intermediate = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.output = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)
        self.final_layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    @jax.named_scope("mlp")
    def feed_forward(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.output(materialise(ACTIVATIONS[self.activation](self.intermediate(x))))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        lengths: Int[Array, "B"] | None = None,
        bias: Float[Array, "#B N T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        if self.norm_first:
            x = x + self.attention(self.layer_norm(x), lengths, bias)
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.attention(x, lengths, bias))
        return self.final_layer_norm(x + self.feed_forward(x))


class Encoder(nnx.Module):
    """Positional convolution and the transformer layers."""

    layer_class: ClassVar[type[EncoderLayer]] = EncoderLayer

    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        self.norm_first = config.do_stable_layer_norm
        self.positions = PositionalConv(config, rngs=rngs)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        keys = jax.random.split(rngs.params(), config.num_hidden_layers)
        self.layers = jax.vmap(lambda key: self.layer_class(config, impl, rngs=nnx.Rngs(key)))(keys)

    def bias(self, frames: int) -> Float[Array, "1 N {frames} {frames}"] | None:
        """What every layer's attention is given of the distances between frames; here nothing."""
        return None

    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], keep_layers: int
    ) -> Float[Array, "{keep_layers} B T D"]:
        """Projected (perhaps masked) frames -> the last hidden states."""
        x = jnp.where(length_mask(lengths, x.shape[1])[..., None], x, 0)
        x = x + self.positions(x)
        if not self.norm_first:
            x = self.layer_norm(x)
        bias = self.bias(x.shape[1])
        hidden_states = scan_layers(lambda layer, x: layer(x, lengths, bias), self.layers, x, keep_layers)
        if self.norm_first:
            hidden_states = with_last(self.layer_norm, hidden_states)
        return hidden_states


class Hubert(Port):
    """Speech encoder: `feature_encoder`, `feature_projection` and `encoder`, each callable by itself.

    Args:
        config: of a HuBERT or wav2vec 2.0 checkpoint.
        attention_impl: see `mer_jax.models.attention`.

    Raises:
        DataError: the config asks for a variant that is not ported, such as `conv_pos_batch_norm`, which has no
            weight norm.
    """

    configs: ClassVar[Mapping[str, Any]] = {"hubert": HubertConfig, "wav2vec2": HubertConfig}
    rules = staticmethod(rules)
    encoder_class: ClassVar[type[Encoder]] = Encoder

    def __init__(self, config: SpeechConfig, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        if getattr(config, "conv_pos_batch_norm", False):
            raise DataError(
                "this HuBERT has a batch-normalised positional convolution (conv_pos_batch_norm=true in "
                "config.json); only the weight-normalised one is supported: use another checkpoint"
            )
        if config.feat_extract_norm not in ("group", "layer"):
            raise DataError(f"config.json asks for feat_extract_norm={config.feat_extract_norm!r}; known: group, layer")
        for name in ("add_adapter", "adapter_attn_dim"):  # of wav2vec 2.0
            if value := getattr(config, name, None):
                raise DataError(f"config.json asks for {name}={value!r}; adapters are not supported")
        super().__init__(config)
        self.feature_encoder = FeatureEncoder(config, rngs=rngs)
        self.feature_projection = FeatureProjection(config, rngs=rngs)
        self.encoder = self.encoder_class(config, attention_impl, rngs=rngs)

    def __call__(
        self,
        waveform: Shaped[Array | np.ndarray, "B S"],
        lengths: Int[Array | np.ndarray, "B"],
        keep_layers: int = KEEP_LAYERS,
    ) -> EncoderOutput:
        """Encodes waveforms; a clip's result does not depend on its padding or on the rest of the batch.

        With `do_stable_layer_norm` only the last state has passed the final LayerNorm, as in transformers 4 (5 has
        that as `last_hidden_state`).

        Args:
            waveform: 16 kHz mono, normalised to zero mean and unit variance; after a row's length anything.
            lengths: real samples per row.
            keep_layers: how many of the last hidden states to return.
        """
        features, frames = self.feature_encoder(jnp.asarray(waveform), jnp.asarray(lengths))
        x = self.feature_projection(features)
        return EncoderOutput(self.encoder(x, frames, keep_layers), frames)
