"""The networks: frozen encoder ports, prompt-tuned CLIP, and the fusion head."""

from flax import nnx

nnx.set_graph_mode(False)  # before any module is made

from mer_jax.models.baichuan import Baichuan  # noqa: E402
from mer_jax.models.clip import CLIP  # noqa: E402
from mer_jax.models.emovclip import EmoVCLIP  # noqa: E402
from mer_jax.models.fusion import AttentionFusion  # noqa: E402
from mer_jax.models.hubert import Hubert  # noqa: E402

__all__ = ["CLIP", "AttentionFusion", "Baichuan", "EmoVCLIP", "Hubert"]
