"""transformers' `WhisperModel` tensors -> `Whisper`, the encoder."""

from mer_jax.checkpoints.huggingface import CONV, Rule, linear, norm

LAYER = "encoder.layers.{layer}"
RULES: tuple[Rule, ...] = (
    Rule("encoder.conv1.weight", "conv_1.kernel", CONV),
    Rule("encoder.conv1.bias", "conv_1.bias"),
    Rule("encoder.conv2.weight", "conv_2.kernel", CONV),
    Rule("encoder.conv2.bias", "conv_2.bias"),
    Rule("encoder.embed_positions.weight", "position_embedding"),
    *norm(f"{LAYER}.self_attn_layer_norm", "layers.layer_norm"),
    *linear(f"{LAYER}.self_attn.q_proj", "layers.attention.query"),
    *linear(f"{LAYER}.self_attn.k_proj", "layers.attention.key"),
    *linear(f"{LAYER}.self_attn.v_proj", "layers.attention.value"),
    *linear(f"{LAYER}.self_attn.out_proj", "layers.attention.out"),
    *norm(f"{LAYER}.final_layer_norm", "layers.final_layer_norm"),
    *linear(f"{LAYER}.fc1", "layers.intermediate"),
    *linear(f"{LAYER}.fc2", "layers.output"),
    *norm("encoder.layer_norm", "layer_norm"),
    *(Rule(name, None) for name in ["decoder.*", "proj_out.*", "projector.*", "classifier.*", "layer_weights"]),
)
