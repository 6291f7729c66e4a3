"""transformers' `SiglipModel` tensors -> `Siglip`, the image tower."""

from mer_jax.checkpoints.huggingface import CONV, SPLIT3, SPLIT3_BIAS, Rule, linear, norm
from mer_jax.models.clip_weights import layers

HEAD = tuple(f"head.attention.{name}" for name in ("query", "key", "value"))
RULES: tuple[Rule, ...] = (
    Rule("vision_model.embeddings.patch_embedding.weight", "patch_embedding", CONV),
    Rule("vision_model.embeddings.patch_embedding.bias", "patch_bias"),
    Rule("vision_model.embeddings.position_embedding.weight", "position_embedding"),
    *layers("vision_model.encoder.layers.{layer}", "layers"),
    *norm("vision_model.post_layernorm", "layer_norm"),
    Rule("vision_model.head.probe", "head.query"),
    Rule("vision_model.head.attention.in_proj_weight", tuple(f"{name}.kernel" for name in HEAD), SPLIT3),
    Rule("vision_model.head.attention.in_proj_bias", tuple(f"{name}.bias" for name in HEAD), SPLIT3_BIAS),
    *linear("vision_model.head.attention.out_proj", "head.attention.out"),
    *norm("vision_model.head.layernorm", "head.layer_norm"),
    *linear("vision_model.head.mlp.fc1", "head.mlp.fc_1"),
    *linear("vision_model.head.mlp.fc2", "head.mlp.fc_2"),
    # The text tower, the temperature, and buffers that older versions of transformers saved.
    Rule("text_model.*", None),
    Rule("logit_*", None),
    Rule("vision_model.embeddings.position_ids", None),
)
