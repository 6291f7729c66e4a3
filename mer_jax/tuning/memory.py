"""How much of a device's memory the tuning of prompts takes: see mer_jax/features/memory.py."""

from mer_jax.features.encoder_settings import VideoSettings
from mer_jax.features.memory import Needed, itemsize, layer_bytes, weight_bytes
from mer_jax.features.networks import checkpoint_of
from mer_jax.tuning.tune_settings import TuneSettings


def tuning_memory(video: VideoSettings, settings: TuneSettings, folds: int, platform: str) -> Needed:
    """Of a training step: what every layer has computed waits for the way back."""
    checkpoint = checkpoint_of(video.source, "video")
    tower = checkpoint.config.vision_config
    sets = 1 if settings.micro_batch or settings.mode != "per_fold" else folds
    images = sets * (settings.micro_batch or settings.batch_size) * video.num_frames
    tokens = (tower.image_size // tower.patch_size) ** 2 + 1 + settings.num_prompts.vision
    layer = layer_bytes(tower, images, tokens, itemsize(video.dtype))
    pixels = settings.batch_size * video.num_frames * tower.image_size**2 * 3 * 4
    weights = weight_bytes(checkpoint, video.dtype, platform)
    return Needed(weights, 3 * pixels + layer * (2 if settings.remat else tower.num_hidden_layers))
