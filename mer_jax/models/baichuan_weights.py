"""Baichuan, LLaMA and Qwen tensors -> `Baichuan`, split over a mesh's "model" axis by heads and inner channels.

Each device computes some heads and some channels of the feed-forward; one sum per half layer joins them
(Shoeybi et al. 2019).
"""

from dataclasses import replace
from typing import Any

from jax.sharding import PartitionSpec as P

from mer_jax.checkpoints.huggingface import SPLIT3, TRANSPOSE, Rule, linear

SPLIT_OUTPUTS = P(None, None, "model")  # of kernels [layers, in, out]
SPLIT_INPUTS = P(None, "model", None)


def rules(config: Any) -> list[Rule]:
    """The table for a family of checkpoints."""
    tied = config.tie_word_embeddings
    attention, mlp = "layers.{layer}.self_attn", "layers.{layer}.mlp"
    table = [
        # Of two tied tensors a checkpoint may hold either.
        Rule("embed_tokens.weight", "embedding", partition=P(None, "model"), spare="lm_head.weight" * tied),
        Rule("norm.weight", "norm.scale"),
        Rule("layers.{layer}.input_layernorm.weight", "layers.attention_norm.scale"),
        Rule("layers.{layer}.post_attention_layernorm.weight", "layers.feed_forward_norm.scale"),
        Rule(f"{attention}.q_norm.weight", "layers.attention.query_norm.scale"),
        Rule(f"{attention}.k_norm.weight", "layers.attention.key_norm.scale"),
        *linear(f"{attention}.o_proj", "layers.attention.out", SPLIT_INPUTS),
        *linear(f"{mlp}.gate_proj", "layers.feed_forward.gate", SPLIT_OUTPUTS),
        *linear(f"{mlp}.up_proj", "layers.feed_forward.up", SPLIT_OUTPUTS),
        *linear(f"{mlp}.down_proj", "layers.feed_forward.down", SPLIT_INPUTS),
    ]
    if config.model_type == "baichuan":
        kernels = tuple(f"layers.attention.{name}.kernel" for name in ("query", "key", "value"))
        table.append(Rule(f"{attention}.W_pack.weight", kernels, SPLIT3, SPLIT_OUTPUTS))
    else:
        table += linear(f"{attention}.q_proj", "layers.attention.query", SPLIT_OUTPUTS)
        table += linear(f"{attention}.k_proj", "layers.attention.key", SPLIT_OUTPUTS)
        table += linear(f"{attention}.v_proj", "layers.attention.value", SPLIT_OUTPUTS)
    return [
        # Checkpoints of the causal model have the prefix, those of the bare decoder don't.
        *(replace(rule, source=(f"model.{rule.sources[0]}", *rule.sources)) for rule in table),
        Rule("lm_head.weight", "lm_head.kernel", TRANSPOSE, P(None, "model")),
        Rule("lm_head.weight", None),  # skipped where the module has no head
        Rule("*.rotary_emb.inv_freq", None),  # a constant that old checkpoints store
    ]
