"""transformers' `HubertModel` / `Wav2Vec2Model` tensors -> `Hubert`."""

from typing import Any

from mer_jax.checkpoints.huggingface import CONV, Rule, linear, norm

# Training heads, and the embedding that stood for masked frames in pretraining.
IGNORED = (
    "masked_spec_embed lm_head.* quantizer.* project_hid.* project_q.* projector.* classifier.* layer_weights "
    "final_proj.* label_embs_concat"
)


def rules(config: Any) -> list[Rule]:
    """The table for so many convolutions; names are those without the task models' `hubert.` or `wav2vec2.`."""
    convs: list[Rule] = []
    for index in range(len(config.conv_dim)):
        source, target = f"feature_extractor.conv_layers.{index}", f"feature_encoder.layers.{index}"
        convs.append(Rule(f"{source}.conv.weight", f"{target}.conv.kernel", CONV))
        convs.append(Rule(f"{source}.conv.bias", f"{target}.conv.bias"))
        convs += norm(f"{source}.layer_norm", f"{target}.layer_norm")  # a layer has one of the two, or none
        convs += norm(f"{source}.layer_norm", f"{target}.time_norm")
    positions, layer = "encoder.pos_conv_embed.conv", "encoder.layers.{layer}"
    renamed = f"{positions}.parametrizations.weight"  # by torch; checkpoints have either name
    return [
        *convs,
        *norm("feature_projection.layer_norm", "feature_projection.layer_norm"),
        *linear("feature_projection.projection", "feature_projection.projection"),
        Rule((f"{positions}.weight_g", f"{renamed}.original0"), "encoder.positions.weight_g", CONV),
        Rule((f"{positions}.weight_v", f"{renamed}.original1"), "encoder.positions.weight_v", CONV),
        Rule(f"{positions}.bias", "encoder.positions.bias"),
        *norm("encoder.layer_norm", "encoder.layer_norm"),
        *linear(f"{layer}.attention.q_proj", "encoder.layers.attention.query"),
        *linear(f"{layer}.attention.k_proj", "encoder.layers.attention.key"),
        *linear(f"{layer}.attention.v_proj", "encoder.layers.attention.value"),
        *linear(f"{layer}.attention.out_proj", "encoder.layers.attention.out"),
        *norm(f"{layer}.layer_norm", "encoder.layers.layer_norm"),
        *linear(f"{layer}.feed_forward.intermediate_dense", "encoder.layers.intermediate"),
        *linear(f"{layer}.feed_forward.output_dense", "encoder.layers.output"),
        *norm(f"{layer}.final_layer_norm", "encoder.layers.final_layer_norm"),
        *(Rule(name, None) for name in IGNORED.split()),
    ]
