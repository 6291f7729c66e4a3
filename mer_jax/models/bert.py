"""BERT and RoBERTa text encoders (Devlin et al. 2019; transformers `BertModel`, `RobertaModel`, `XLMRobertaModel`)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.checkpoints.config_classes import BertConfig, RobertaConfig, XLMRobertaConfig
from mer_jax.defaults import KEEP_LAYERS
from mer_jax.models.bert_weights import RULES
from mer_jax.models.hubert import EncoderLayer
from mer_jax.models.layers import EncoderOutput, LayerNorm, scan_layers
from mer_jax.models.port import Port
from mer_jax.runtime.array_types import Array, Int
from mer_jax.runtime.errors import DataError

BERT_CONFIGS: Mapping[str, Any] = {"bert": BertConfig, "roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig}


def first_position(config: Any) -> int:
    """Row of the position table that a text's first token has: RoBERTa's begin behind that of padding."""
    return 0 if config.model_type == "bert" else config.pad_token_id + 1


def most_tokens(config: Any) -> int:
    """Of a text that the positions are enough for, special tokens included."""
    return config.max_position_embeddings - first_position(config)


class Bert(Port):
    """Text encoder; every token sees all of the text.

    Args:
        config: transformers' `BertConfig`, `RobertaConfig` or `XLMRobertaConfig`.
        attention_impl: see `mer_jax.models.attention`.

    Raises:
        DataError: the config asks for relative positions or for a decoder.
    """

    configs: ClassVar[Mapping[str, Any]] = BERT_CONFIGS
    rules = staticmethod(lambda config: RULES)
    prefixes = ("roberta.",)

    def __init__(self, config: Any, *, attention_impl: str = "auto", rngs: nnx.Rngs):
        if (kind := getattr(config, "position_embedding_type", None) or "absolute") != "absolute":
            raise DataError(f"config.json asks for position_embedding_type={kind!r}; supported is 'absolute'")
        if getattr(config, "is_decoder", False):
            raise DataError("config.json asks for is_decoder=true; supported is false, an encoder")
        super().__init__(config)
        self.first_position = first_position(config)
        width, normal = config.hidden_size, nnx.initializers.normal(0.02)
        sizes = config.vocab_size, config.max_position_embeddings, config.type_vocab_size
        tables = [nnx.Param(normal(rngs.params(), (size, width))) for size in sizes]
        self.token_embedding, self.position_embedding, self.type_embedding = tables
        self.layer_norm = LayerNorm(width, config.layer_norm_eps)
        keys = jax.random.split(rngs.params(), config.num_hidden_layers)
        self.layers = jax.vmap(lambda key: EncoderLayer(config, attention_impl, rngs=nnx.Rngs(key)))(keys)

    def __call__(
        self,
        token_ids: Int[Array | np.ndarray, "B T"],
        lengths: Int[Array | np.ndarray, "B"],
        keep_layers: int = KEEP_LAYERS,
    ) -> EncoderOutput:
        """Encodes texts, each one segment; a text's result does not depend on its padding or the rest of the batch.

        Args:
            token_ids: with the special tokens that begin and end a text; after a row's length any valid id.
            lengths: real tokens per row.
            keep_layers: how many of the last hidden states to return.

        Raises:
            ValueError: more tokens than the model has positions.
        """
        positions = self.first_position + np.arange(token_ids.shape[1])
        if positions[-1] >= (rows := self.position_embedding.shape[0]):
            raise ValueError(f"{len(positions)} tokens, but the model has {rows - self.first_position} positions")
        x = self.token_embedding[jnp.asarray(token_ids)] + self.type_embedding[0] + self.position_embedding[positions]
        lengths = jnp.asarray(lengths)
        states = scan_layers(lambda layer, x: layer(x, lengths), self.layers, self.layer_norm(x), keep_layers)
        return EncoderOutput(states, lengths)
