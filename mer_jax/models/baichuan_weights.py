"""Baichuan, LLaMA and Qwen tensors -> `Baichuan`, split over a mesh's "model" axis by heads and inner channels.

Each device computes some heads and some channels of the feed-forward; one sum per half layer joins them
(Shoeybi et al. 2019).
"""

from jax.sharding import PartitionSpec as P
from transformers import PreTrainedConfig

from mer_jax.checkpoints.huggingface import IDENTITY, REPLICATED, SPLIT3, TRANSPOSE, Rule, Transform
from mer_jax.models.baichuan_config import feed_forward_bias, input_bias, output_bias

SPLIT_OUTPUTS = P(None, None, "model")  # of kernels [layers, in, out]
SPLIT_INPUTS = P(None, "model", None)


def rule(
    source: str, target: str | tuple[str, ...], transform: Transform = IDENTITY, partition: P = REPLICATED
) -> Rule:
    """Checkpoints of the causal model have the prefix, those of the bare decoder don't."""
    return Rule((f"model.{source}", source), target, transform, partition)


def linear(source: str, target: str, bias: bool, partition: P) -> list[Rule]:
    """One layer's kernel, and its bias [layers, out], which is split as the outputs are."""
    table = [rule(f"{source}.weight", f"{target}.kernel", TRANSPOSE, partition)]
    if bias:
        table.append(rule(f"{source}.bias", f"{target}.bias", partition=P(None, partition[2])))
    return table


def rules(config: PreTrainedConfig, lm_head: bool) -> list[Rule]:
    """The table for one config; `lm_head`: the module has its own output head, else the file's is skipped."""
    layer, attention = "layers.{layer}", "layers.attention"
    table = [
        rule("embed_tokens.weight", "embedding", partition=P(None, "model")),
        rule("norm.weight", "norm.scale"),
        rule(f"{layer}.input_layernorm.weight", "layers.attention_norm.scale"),
        rule(f"{layer}.post_attention_layernorm.weight", "layers.feed_forward_norm.scale"),
        *linear(f"{layer}.self_attn.o_proj", f"{attention}.out", output_bias(config), SPLIT_INPUTS),
        Rule("*.rotary_emb.inv_freq", None),  # a constant that old checkpoints store
    ]
    if config.model_type == "baichuan":
        packed = tuple(f"{attention}.{name}.kernel" for name in ("query", "key", "value"))
        table.append(rule(f"{layer}.self_attn.W_pack.weight", packed, SPLIT3, SPLIT_OUTPUTS))
    else:
        for source, target in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            table += linear(f"{layer}.self_attn.{source}", f"{attention}.{target}", input_bias(config), SPLIT_OUTPUTS)
    if config.model_type == "qwen3":
        table.append(rule(f"{layer}.self_attn.q_norm.weight", f"{attention}.query_norm.scale"))
        table.append(rule(f"{layer}.self_attn.k_norm.weight", f"{attention}.key_norm.scale"))
    for name, partition in (("gate", SPLIT_OUTPUTS), ("up", SPLIT_OUTPUTS), ("down", SPLIT_INPUTS)):
        table += linear(f"{layer}.mlp.{name}_proj", f"layers.feed_forward.{name}", feed_forward_bias(config), partition)
    if lm_head:
        table.append(Rule("lm_head.weight", "lm_head.kernel", TRANSPOSE, P(None, "model")))
    else:
        table.append(Rule("lm_head.weight", None))
    return table
