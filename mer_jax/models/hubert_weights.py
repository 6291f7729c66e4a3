"""transformers' `HubertModel` / `Wav2Vec2Model` tensors -> `Hubert`."""

from transformers import HubertConfig

from mer_jax.checkpoints.huggingface import CONV, IDENTITY, TRANSPOSE, Rule

# Training heads, and the embedding that stood for masked frames in pretraining.
IGNORED = (
    "masked_spec_embed",
    "lm_head.*",
    "quantizer.*",
    "project_hid.*",
    "project_q.*",
    "projector.*",
    "classifier.*",
    "layer_weights",
)


def linear(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}.weight", f"{target}.kernel", TRANSPOSE),
        Rule(f"{source}.bias", f"{target}.bias", IDENTITY),
    ]


def norm(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}.weight", f"{target}.scale", IDENTITY),
        Rule(f"{source}.bias", f"{target}.bias", IDENTITY),
    ]


def rules(config: HubertConfig) -> list[Rule]:
    """The table for one config; names are those without the task models' `hubert.` or `wav2vec2.`."""
    table = []
    for index in range(len(config.conv_dim)):
        source, target = f"feature_extractor.conv_layers.{index}", f"feature_encoder.layers.{index}"
        table.append(Rule(f"{source}.conv.weight", f"{target}.conv.kernel", CONV))
        if config.conv_bias:
            table.append(Rule(f"{source}.conv.bias", f"{target}.conv.bias"))
        if config.feat_extract_norm == "layer":
            table += norm(f"{source}.layer_norm", f"{target}.layer_norm")
        elif index == 0:
            table += norm(f"{source}.layer_norm", f"{target}.time_norm")

    if config.feat_proj_layer_norm:
        table += norm("feature_projection.layer_norm", "feature_projection.layer_norm")
    table += linear("feature_projection.projection", "feature_projection.projection")

    # torch renamed the two halves of a weight-normalised tensor; checkpoints have either name.
    positions = "encoder.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        names = (f"{positions}.{old}", f"{positions}.parametrizations.weight.{new}")
        table.append(Rule(names, f"encoder.positions.{old}", CONV))
    table.append(Rule(f"{positions}.bias", "encoder.positions.bias"))
    table += norm("encoder.layer_norm", "encoder.layer_norm")

    layer = "encoder.layers.{layer}"
    for source, target in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out")):
        table += linear(f"{layer}.attention.{source}", f"encoder.layers.attention.{target}")
    table += norm(f"{layer}.layer_norm", "encoder.layers.layer_norm")
    table += linear(f"{layer}.feed_forward.intermediate_dense", "encoder.layers.intermediate")
    table += linear(f"{layer}.feed_forward.output_dense", "encoder.layers.output")
    table += norm(f"{layer}.final_layer_norm", "encoder.layers.final_layer_norm")

    return table + [Rule(name, None) for name in IGNORED]
