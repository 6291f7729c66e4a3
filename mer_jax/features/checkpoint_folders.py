"""What the small files of an encoder's checkpoint say of it, before any weight is read.

Raises DataError, in one line, where a checkpoint is not one that we can follow.
"""

from collections.abc import Mapping
from typing import Any

from mer_jax.checkpoints.config_classes import CLIPConfig
from mer_jax.checkpoints.huggingface import fetch, read_config
from mer_jax.models.baichuan_config import CONFIG_CLASSES
from mer_jax.models.hubert import SPEECH_CONFIGS
from mer_jax.models.preprocess import Preprocessing
from mer_jax.models.preprocess_config import image_preprocessing, normalises_sound
from mer_jax.runtime.errors import DataError
from mer_jax.text.tokenizer import Tokenizer


def clip_images(source: str) -> tuple[int, Preprocessing]:
    """Side in pixels of the images that a CLIP checkpoint takes, and what frames go through to be such."""
    folder = fetch(source, weights=False)
    side = read_config(folder, {"clip": CLIPConfig}).vision_config.image_size
    return side, image_preprocessing(folder, side)


def speech_normalised(source: str, sample_rate: int, keep_layers: int) -> bool:
    """Whether a speech checkpoint wants clips of zero mean and unit variance."""
    _check_layers(source, SPEECH_CONFIGS, keep_layers, "speech")
    return normalises_sound(fetch(source, weights=False), sample_rate)


def text_tokenizer(source: str, keep_layers: int) -> Tokenizer:
    """The tokenizer of a language model."""
    _check_layers(source, CONFIG_CLASSES, keep_layers, "text")
    return Tokenizer(fetch(source, weights=False))


def _check_layers(source: str, classes: Mapping[str, Any], keep_layers: int, modality: str) -> None:
    layers = read_config(fetch(source, weights=False), classes).num_hidden_layers
    if keep_layers > layers:
        raise DataError(
            f"{source}: has {layers} layers, fewer than encoders.{modality}.keep_layers={keep_layers}: lower that, or "
            "use another checkpoint."
        )
