"""transformers' `BertModel` and `RobertaModel` tensors -> `Bert`."""

from mer_jax.checkpoints.huggingface import Rule, linear

# Poolers and heads of pretraining or of tasks, and buffers that older versions of transformers saved.
IGNORED = "pooler.* cls.* lm_head.* classifier.* qa_outputs.* embeddings.position_ids embeddings.token_type_ids"


def norm(source: str, target: str) -> list[Rule]:
    """A normalisation's scale and bias, which checkpoints from TensorFlow call gamma and beta."""
    return [
        Rule((f"{source}.weight", f"{source}.gamma"), f"{target}.scale"),
        Rule((f"{source}.bias", f"{source}.beta"), f"{target}.bias"),
    ]


LAYER = "encoder.layer.{layer}"
RULES: tuple[Rule, ...] = (
    Rule("embeddings.word_embeddings.weight", "token_embedding"),
    Rule("embeddings.position_embeddings.weight", "position_embedding"),
    Rule("embeddings.token_type_embeddings.weight", "type_embedding"),
    *norm("embeddings.LayerNorm", "layer_norm"),
    *linear(f"{LAYER}.attention.self.query", "layers.attention.query"),
    *linear(f"{LAYER}.attention.self.key", "layers.attention.key"),
    *linear(f"{LAYER}.attention.self.value", "layers.attention.value"),
    *linear(f"{LAYER}.attention.output.dense", "layers.attention.out"),
    *norm(f"{LAYER}.attention.output.LayerNorm", "layers.layer_norm"),
    *linear(f"{LAYER}.intermediate.dense", "layers.intermediate"),
    *linear(f"{LAYER}.output.dense", "layers.output"),
    *norm(f"{LAYER}.output.LayerNorm", "layers.final_layer_norm"),
    *(Rule(name, None) for name in IGNORED.split()),
)
