"""Which network reads a checkpoint: the `model_type` of its config.json alone says so."""

from pathlib import Path
from typing import Any, NamedTuple

from mer_jax.checkpoints.huggingface import fetch, read_config
from mer_jax.models import CLIP, Baichuan, Bert, Dinov2, Hubert, Siglip, WavLM, Whisper
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.models.bert import BERT_CONFIGS

NETWORKS: dict[str, dict[str, Any]] = {
    "speech": {"hubert": Hubert, "wav2vec2": Hubert, "wavlm": WavLM, "whisper": Whisper},
    "image": {"clip": CLIP, "dinov2": Dinov2, "siglip": Siglip},
    "text": dict.fromkeys(CONFIG_CLASSES, Baichuan) | dict.fromkeys(BERT_CONFIGS, Bert),
    "video": {"clip": CLIP},
}
"""By modality and `model_type`: the class of `mer_jax.models`, whose `configs` has transformers' for it."""


class Checkpoint(NamedTuple):
    """What the small files of a checkpoint say, before any weight is read."""

    folder: Path
    config: Any
    network: Any


def checkpoint_of(source: str, modality: str) -> Checkpoint:
    """A source's folder, config and network.

    Raises:
        DataError: there is no such checkpoint, or it is of a network that the modality has none for.
    """
    folder, networks = fetch(source, weights=False), NETWORKS[modality]
    config = read_config(folder, {kind: network.configs[kind] for kind, network in networks.items()})
    return Checkpoint(folder, config, networks[config.model_type])
