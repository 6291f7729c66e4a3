"""Whisper's encoder, tiny to large-v3 (Radford et al. 2022; transformers `WhisperModel.encoder`).

It was trained on 30 s, shorter sounds followed by silence, to which every frame attends. So that is what is computed:
a clip of any length costs what 30 s cost. The features are the frames that hold sound (in transformers those of
`attention_mask`, by `_get_feat_extract_output_lengths`).
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import WhisperConfig
from mer_jax.defaults import KEEP_LAYERS
from mer_jax.models.hubert import EncoderLayer, SelfAttention, SpeechConfig, length_mask
from mer_jax.models.layers import EncoderOutput, LayerNorm, gelu, scan_layers, with_last
from mer_jax.models.log_mel import HOP, log_mel
from mer_jax.models.port import Port
from mer_jax.models.whisper_weights import RULES
from mer_jax.runtime.array_types import Array, Float, Int, Shaped

NORM_EPS = 1e-5  # torch's default; transformers does not take it from the config


class UnbiasedKeys(SelfAttention):
    def __init__(self, config: SpeechConfig, impl: str = "auto", *, rngs: nnx.Rngs):
        super().__init__(config, impl, rngs=rngs)
        self.key = nnx.Linear(config.hidden_size, config.hidden_size, use_bias=False, rngs=rngs)


class WhisperLayer(EncoderLayer):
    attention_class = UnbiasedKeys

    def __init__(self, config: Any, impl: str = "auto", *, rngs: nnx.Rngs):
        names = {"hidden_size": config.d_model, "intermediate_size": config.encoder_ffn_dim}
        names |= {"num_attention_heads": config.encoder_attention_heads, "hidden_act": config.activation_function}
        super().__init__(SimpleNamespace(**names, do_stable_layer_norm=True, layer_norm_eps=NORM_EPS), impl, rngs=rngs)


class Whisper(Port):
    """Speech encoder, of `openai/whisper-large-v3` and the like; is called as `Hubert` is.

    Args:
        config: of a whole Whisper.
        attention_impl: see `mer_jax.models.attention`.
    """

    configs: ClassVar[Mapping[str, Any]] = {"whisper": WhisperConfig}
    rules = staticmethod(lambda config: RULES)

    def __init__(self, config: Any, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        super().__init__(config)
        self.bins, width = config.num_mel_bins, config.d_model
        self.conv_1 = nnx.Conv(self.bins, width, 3, padding=1, rngs=rngs)
        self.conv_2 = nnx.Conv(width, width, 3, strides=2, padding=1, rngs=rngs)
        shape = (config.max_source_positions, width)
        self.position_embedding = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), shape))
        keys = jax.random.split(rngs.params(), config.encoder_layers)
        self.layers = jax.vmap(lambda key: WhisperLayer(config, attention_impl, rngs=nnx.Rngs(key)))(keys)
        self.layer_norm = LayerNorm(width, NORM_EPS)

    def embed(self, spectrogram: Float[Array, "B frames bins"]) -> Float[Array, "B T D"]:
        """A log-mel spectrogram -> what the first layer sees."""
        x = gelu(self.conv_1(spectrogram.astype(self.conv_1.kernel.dtype)))
        return gelu(self.conv_2(x)) + self.position_embedding[...]

    def __call__(
        self,
        waveform: Shaped[Array | np.ndarray, "B S"],
        lengths: Int[Array | np.ndarray, "B"],
        keep_layers: int = KEEP_LAYERS,
    ) -> EncoderOutput:
        """Encodes waveforms; a clip's result does not depend on its padding or on the rest of the batch.

        The last state has passed the final LayerNorm, as in transformers.

        Args:
            waveform: 16 kHz mono in [-1, 1]; after a row's length anything.
            lengths: real samples per row.
            keep_layers: how many of the last hidden states to return.

        Raises:
            ValueError: more samples than the model has positions for.
        """
        x, lengths = jnp.asarray(waveform, jnp.float32), jnp.asarray(lengths)
        most = 2 * HOP * self.position_embedding.shape[0]
        if x.shape[1] > most:
            raise ValueError(f"{x.shape[1]} samples, but the model takes {most}")
        x = jnp.where(length_mask(lengths, x.shape[1]), x, 0)
        x = self.embed(log_mel(jnp.pad(x, ((0, 0), (0, most - x.shape[1]))), self.bins))
        hidden_states = scan_layers(lambda layer, x: layer(x), self.layers, x, keep_layers)
        return EncoderOutput(with_last(self.layer_norm, hidden_states), -(-lengths // (2 * HOP)))
