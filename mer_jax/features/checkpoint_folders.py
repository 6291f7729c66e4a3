"""What the small files of an encoder's checkpoint say of it, before any weight is read.

Raises DataError, in one line, where a checkpoint is not one that we can follow.
"""

from pathlib import Path

from mer_jax.features.networks import checkpoint_of
from mer_jax.models.bert import Bert, most_tokens
from mer_jax.models.dinov2 import Dinov2
from mer_jax.models.preprocess import Preprocessing
from mer_jax.models.preprocess_config import crop_side, image_preprocessing, log_mel_seconds, normalises_sound
from mer_jax.models.whisper import Whisper
from mer_jax.runtime.errors import DataError
from mer_jax.text.tokenizer import Tokenizer


def frames_as_trained(source: str, modality: str) -> tuple[int, Preprocessing]:
    """Side in pixels of the images that a checkpoint takes, and what frames go through to be such."""
    folder, config, network = checkpoint_of(source, modality)
    if network is Dinov2:  # of images of any size
        side = crop_side(folder, config.patch_size)
        return side, image_preprocessing(folder, side, "dinov2")
    side = config.vision_config.image_size
    return side, image_preprocessing(folder, side, config.model_type)


def sound_as_trained(source: str, sample_rate: int, keep_layers: int) -> tuple[bool, float | None]:
    """Whether a speech checkpoint wants clips of zero mean and unit variance, and the seconds that it takes, if only so
    many."""
    folder = _with_layers(source, keep_layers, "speech")
    _, config, network = checkpoint_of(source, "speech")
    if network is Whisper:
        return False, log_mel_seconds(folder, sample_rate, config)
    return normalises_sound(folder, sample_rate), None


def text_tokenizer(source: str, keep_layers: int, longest: int) -> Tokenizer:
    """The tokenizer of a language model. longest: tokens of a text that it has to have positions for."""
    _, config, network = checkpoint_of(source, "text")
    if network is Bert and longest > (most := most_tokens(config)):
        raise DataError(
            f"{source}: takes {most} tokens, fewer than the {longest} of encoders.text.buckets_tokens: lower those."
        )
    return Tokenizer(_with_layers(source, keep_layers, "text"))


def _with_layers(source: str, keep_layers: int, modality: str) -> Path:
    """The folder of a checkpoint that has enough layers."""
    folder, config, _ = checkpoint_of(source, modality)
    if keep_layers > (layers := config.num_hidden_layers):
        raise DataError(
            f"{source}: has {layers} layers, fewer than encoders.{modality}.keep_layers={keep_layers}: lower that, or "
            "use another checkpoint."
        )
    return folder
