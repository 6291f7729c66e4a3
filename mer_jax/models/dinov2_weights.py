"""transformers' `Dinov2Model` tensors -> `Dinov2`."""

from typing import Any

from mer_jax.checkpoints.huggingface import CONV, Rule, linear, norm

LAYER = "encoder.layer.{layer}"
SHARED: tuple[Rule, ...] = (
    Rule("embeddings.cls_token", "class_embedding"),
    Rule("embeddings.patch_embeddings.projection.weight", "patch_embedding", CONV),
    Rule("embeddings.patch_embeddings.projection.bias", "patch_bias"),
    Rule("embeddings.position_embeddings", "position_embedding"),
    *norm(f"{LAYER}.norm1", "layers.ln_1"),
    *linear(f"{LAYER}.attention.attention.query", "layers.attention.query"),
    *linear(f"{LAYER}.attention.attention.key", "layers.attention.key"),
    *linear(f"{LAYER}.attention.attention.value", "layers.attention.value"),
    *linear(f"{LAYER}.attention.output.dense", "layers.attention.out"),
    Rule(f"{LAYER}.layer_scale1.lambda1", "layers.scale_1"),
    *norm(f"{LAYER}.norm2", "layers.ln_2"),
    Rule(f"{LAYER}.layer_scale2.lambda1", "layers.scale_2"),
    *norm("layernorm", "layer_norm"),
    # What masks patches in pretraining, and heads of tasks.
    Rule("embeddings.mask_token", None),
    Rule("classifier.*", None),
)


def rules(config: Any) -> list[Rule]:
    """The table; the giant has other names in its feed-forward network."""
    first, second = ("weights_in", "weights_out") if config.use_swiglu_ffn else ("fc1", "fc2")
    mlp = f"{LAYER}.mlp"
    return [*SHARED, *linear(f"{mlp}.{first}", "layers.mlp.fc_1"), *linear(f"{mlp}.{second}", "layers.mlp.fc_2")]
