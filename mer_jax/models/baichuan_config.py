"""The decoder family's configs."""

from typing import Any, no_type_check

from mer_jax.checkpoints.config_classes import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

BAICHUAN_2_VOCABULARY = 125_696


@no_type_check  # transformers makes it a dataclass that takes more than its fields
class BaichuanConfig(PreTrainedConfig):
    """`config.json` of Baichuan 1 and 2 under the hub's field names; the defaults are Baichuan2-13B."""

    model_type = "baichuan"

    vocab_size: int = BAICHUAN_2_VOCABULARY
    hidden_size: int = 5120
    intermediate_size: int = 13696
    num_hidden_layers: int = 40
    num_attention_heads: int = 40
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int | None = None  # set in the 7B models: rotary positions; 13B: ALiBi
    model_max_length: int = 4096
    z_loss_weight: float | int | None = None  # only Baichuan 2 knows this field
    tie_word_embeddings: bool = False

    @property
    def norm_head(self) -> bool:
        """Whether the rows of `lm_head` are normalised (Baichuan 2's NormHead)."""
        return self.z_loss_weight is not None or self.vocab_size == BAICHUAN_2_VOCABULARY


CONFIG_CLASSES: dict[str, Any] = {
    "baichuan": BaichuanConfig,
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
