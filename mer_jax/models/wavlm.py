"""WavLM speech encoder, base and large (Chen et al. 2022; transformers `WavLMModel`): HuBERT, but for attention.

There each layer gates, by what a frame holds, what one table says of the distances between frames.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import WavLMConfig
from mer_jax.models.hubert import Encoder, EncoderLayer, Hubert, SelfAttention, SpeechConfig
from mer_jax.models.wavlm_weights import rules
from mer_jax.runtime.array_types import Array, Float, Int


def buckets(distances: Int[np.ndarray, "*D"], num_buckets: int, max_distance: int) -> Int[np.ndarray, "*D"]:
    """Distance, key minus query -> row of the table: half of it for keys that follow.

    Of either half one half is for a distance each, the other for logarithmic ranges up to `max_distance`. In float32,
    as torch rounds at the ranges' edges.
    """
    half = num_buckets // 2
    exact = half // 2
    far = np.abs(distances)
    share = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    coarse = np.minimum((exact + share * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(far < exact, far, coarse) + half * (distances > 0)


class GatedAttention(SelfAttention):
    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        super().__init__(config, impl, rngs=rngs)
        self.gates = nnx.Linear(config.hidden_size // self.num_heads, 8, rngs=rngs)
        self.gate_scale = nnx.Param(jnp.ones((1, self.num_heads, 1, 1)))

    def gate(self, x: Float[Array, "B T D"]) -> Float[Array, "B N T 1"]:
        """What each query's share of the positions' bias is multiplied by, float32."""
        heads = x.reshape(*x.shape[:2], self.num_heads, -1).transpose(0, 2, 1, 3)  # [B, N, T, H]
        sums = self.gates(heads).astype(jnp.float32).reshape(*heads.shape[:-1], 2, 4).sum(-1)
        update, reset = jnp.split(jax.nn.sigmoid(sums), 2, axis=-1)
        return update * (reset * self.gate_scale - 1) + 2

    def __call__(
        self,
        x: Float[Array, "B T D"],
        lengths: Int[Array, "B"] | None = None,
        bias: Float[Array, "#B N T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        assert bias is not None, "the encoder gives it"
        return super().__call__(x, lengths, self.gate(x) * bias)


class GatedLayer(EncoderLayer):
    attention_class = GatedAttention


class WavLMEncoder(Encoder):
    layer_class = GatedLayer

    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        super().__init__(config, impl, rngs=rngs)
        self.max_distance = config.max_bucket_distance
        shape = (config.num_buckets, config.num_attention_heads)
        self.distance_bias = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), shape))

    def bias(self, frames: int) -> Float[Array, "1 N {frames} {frames}"]:
        """The table's value of each head for every query and key, float32; the same for all clips and layers."""
        distances = np.concatenate([np.arange(frames), np.arange(-frames, 0)])
        rows = buckets(distances, self.distance_bias.shape[0], self.max_distance)
        values = self.distance_bias[rows].astype(jnp.float32).T  # [N, 2 T]; at d mod 2T that of distance d
        # One value less in a row than is repeated moves each row on by one: no gather of T^2 values.
        repeated = jnp.tile(values, frames)[:, : frames * (2 * frames - 1)]
        return repeated.reshape(1, len(values), frames, -1)[..., :frames]


class WavLM(Hubert):
    """Speech encoder, of `microsoft/wavlm-base-plus`, `-large` and the like; is called as `Hubert` is."""

    configs: ClassVar[Mapping[str, Any]] = {"wavlm": WavLMConfig}
    rules = staticmethod(rules)
    encoder_class = WavLMEncoder
