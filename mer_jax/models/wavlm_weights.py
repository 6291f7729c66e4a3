"""transformers' `WavLMModel` tensors -> `WavLM`: HuBERT's, and those of the gated distances."""

from typing import Any

from mer_jax.checkpoints.huggingface import Rule, linear
from mer_jax.models.hubert_weights import rules as hubert_rules


def rules(config: Any) -> list[Rule]:
    """The table for so many convolutions."""
    attention = "encoder.layers.{layer}.attention"
    return [
        *hubert_rules(config),
        *linear(f"{attention}.gru_rel_pos_linear", "encoder.layers.attention.gates"),
        Rule(f"{attention}.gru_rel_pos_const", "encoder.layers.attention.gate_scale"),
        Rule("encoder.layers.0.attention.rel_attn_embed.weight", "encoder.distance_bias"),  # for all layers
    ]
