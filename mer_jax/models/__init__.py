"""The networks: frozen encoder ports, prompt-tuned CLIP, and the fusion head."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flax import nnx

if TYPE_CHECKING:
    from mer_jax.models.baichuan import Baichuan
    from mer_jax.models.bert import Bert
    from mer_jax.models.clip import CLIP
    from mer_jax.models.dinov2 import Dinov2
    from mer_jax.models.emovclip import EmoVCLIP
    from mer_jax.models.fusion import AttentionFusion
    from mer_jax.models.hubert import Hubert
    from mer_jax.models.siglip import Siglip
    from mer_jax.models.wavlm import WavLM
    from mer_jax.models.whisper import Whisper

__all__ = ["CLIP", "AttentionFusion", "Baichuan", "Bert", "Dinov2", "EmoVCLIP", "Hubert", "Siglip", "WavLM", "Whisper"]

nnx.set_graph_mode(False)  # before any module is made


def __getattr__(name: str) -> Any:
    """The ports bring transformers, which the face detector and the fusion head do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = "fusion" if name == "AttentionFusion" else name.lower()
    return getattr(import_module(f"{__name__}.{file}"), name)
