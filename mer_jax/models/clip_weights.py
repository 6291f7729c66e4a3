"""transformers' `CLIPModel` tensors -> `CLIP`."""

import jax.numpy as jnp

from mer_jax.checkpoints.huggingface import CONV, TRANSPOSE, Rule, linear, norm


def layers(source: str, target: str) -> tuple[Rule, ...]:
    """The transformer layers, the same in both towers."""
    return (
        *norm(f"{source}.layer_norm1", f"{target}.ln_1"),
        *linear(f"{source}.self_attn.q_proj", f"{target}.attention.query"),
        *linear(f"{source}.self_attn.k_proj", f"{target}.attention.key"),
        *linear(f"{source}.self_attn.v_proj", f"{target}.attention.value"),
        *linear(f"{source}.self_attn.out_proj", f"{target}.attention.out"),
        *norm(f"{source}.layer_norm2", f"{target}.ln_2"),
        *linear(f"{source}.mlp.fc1", f"{target}.mlp.fc_1"),
        *linear(f"{source}.mlp.fc2", f"{target}.mlp.fc_2"),
    )


RULES: tuple[Rule, ...] = (
    Rule("vision_model.embeddings.class_embedding", "vision.class_embedding"),
    Rule("vision_model.embeddings.patch_embedding.weight", "vision.patch_embedding", CONV),
    Rule("vision_model.embeddings.position_embedding.weight", "vision.position_embedding"),
    *norm("vision_model.pre_layrnorm", "vision.ln_pre"),  # transformers' spelling
    *layers("vision_model.encoder.layers.{layer}", "vision.layers"),
    *norm("vision_model.post_layernorm", "vision.ln_post"),
    Rule("visual_projection.weight", "vision.projection.kernel", TRANSPOSE),
    Rule("text_model.embeddings.token_embedding.weight", "text.token_embedding"),
    Rule("text_model.embeddings.position_embedding.weight", "text.position_embedding"),
    *layers("text_model.encoder.layers.{layer}", "text.layers"),
    *norm("text_model.final_layer_norm", "text.ln_final"),
    Rule("text_projection.weight", "text.projection.kernel", TRANSPOSE),
    # In bfloat16 the temperature would be off by 1 %. Embeddings do without.
    Rule("logit_scale", "logit_scale", dtype=jnp.float32, missing=float("nan")),
    # Buffers that older versions of transformers saved.
    Rule("*_model.embeddings.position_ids", None),
)
