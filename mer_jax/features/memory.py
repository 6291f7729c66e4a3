"""How much of a device's memory each encoder takes: from its checkpoint's config and the batch, in no time.

What compiling says (`memory_analysis`; launch/compile_check.py asks it for whole slices) is what the formulas are held
to: tests/features/test_memory.py.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from mer_jax.features.checkpoint_folders import frames_as_trained, sound_as_trained
from mer_jax.features.encoder_settings import (
    EncoderSettings,
    ImageSettings,
    SpeechSettings,
    TextSettings,
    VideoSettings,
)
from mer_jax.features.networks import Checkpoint, checkpoint_of
from mer_jax.models.baichuan import head_dim
from mer_jax.models.log_mel import HOP
from mer_jax.models.whisper import Whisper
from mer_jax.runtime.disk import size_text
from mer_jax.runtime.errors import DataError

PATCHES = 256  # of an image of 224 pixels a side, in patches of 14


class Needed(NamedTuple):
    """Bytes of one device."""

    weights: int
    batch: int  # its arrays, and the largest of what is computed from them


def encoder_memory(settings: EncoderSettings, modality: str, platform: str) -> Needed:
    """What an encoder needs of each device, by the small files of its checkpoint; of EmoVCLIP, to encode.

    Raises:
        DataError: the checkpoint's config asks for what its port has not.
    """
    own = getattr(settings, modality)
    formulas: dict[str, Callable[..., Needed]] = {"speech": speech, "image": images, "text": text, "video": video}
    return formulas[modality](own, checkpoint_of(own.source, modality), platform)


def speech(settings: SpeechSettings, checkpoint: Checkpoint, platform: str) -> Needed:
    config, weights = checkpoint.config, weight_bytes(checkpoint, settings.dtype, platform)
    _, whole = sound_as_trained(settings.source, settings.sample_rate, settings.keep_layers)
    seconds = whole or settings.chunk_seconds
    samples, rows = int(settings.sample_rate * seconds), max(1, int(settings.batch_seconds / seconds))
    each, waves = itemsize(settings.dtype), rows * samples
    if checkpoint.network is Whisper:
        first, frames = waves // HOP * config.hidden_size, config.max_source_positions
    else:
        first = waves // config.conv_stride[0] * config.conv_dim[0]  # the longest of all: one in and one out
        frames = samples // int(np.prod(config.conv_stride))
    layer = layer_bytes(config, rows, frames, each) + kept_bytes(config, rows, frames, each, settings.keep_layers)
    return Needed(weights, 10 * waves + max(9 * first, layer))


def text(settings: TextSettings, checkpoint: Checkpoint, platform: str) -> Needed:
    config, weights = checkpoint.config, weight_bytes(checkpoint, settings.dtype, platform)
    each = itemsize(settings.dtype)
    most = 0
    for tokens in settings.buckets_tokens:
        rows = max(1, settings.batch_tokens // tokens)
        layer = layer_bytes(config, rows, tokens, each, matrices=3)
        most = max(most, layer + kept_bytes(config, rows, tokens, each, settings.keep_layers))
    shared = settings.model_parallel
    return Needed(weights // shared, most // shared)


def images(settings: ImageSettings, checkpoint: Checkpoint, platform: str) -> Needed:
    frames = max(settings.buckets_frames)
    side, _ = frames_as_trained(settings.source, "image")
    rows = max(1, images_at_once(checkpoint.config, side, settings.batch_frames) // frames)
    return frames_of(checkpoint, side, rows, frames, settings.dtype, platform)


def video(settings: VideoSettings, checkpoint: Checkpoint, platform: str) -> Needed:
    rows = max(1, settings.batch_frames // settings.num_frames)
    return frames_of(
        checkpoint, checkpoint.config.vision_config.image_size, rows, settings.num_frames, settings.dtype, platform
    )


def images_at_once(config: Any, side: int, batch_frames: int) -> int:
    """How many images of so many pixels a side go through an encoder: `batch_frames` of `PATCHES`, fewer of more.

    config: of the encoder. What more images are between layers would leave a TPU's chip.
    """
    tower = getattr(config, "vision_config", config)
    return max(1, batch_frames * PATCHES // max(PATCHES, (side // tower.patch_size) ** 2))


def frames_of(checkpoint: Checkpoint, side: int, rows: int, frames: int, dtype: str, platform: str) -> Needed:
    """An image encoder on so many rows of frames of so many pixels a side, one frame of each row at a time."""
    tower = getattr(checkpoint.config, "vision_config", checkpoint.config)
    pixels = rows * frames * side**2 * 3 * 4
    tokens = (side // tower.patch_size) ** 2 + 1
    weights = weight_bytes(checkpoint, dtype, platform)
    return Needed(weights, 3 * pixels + layer_bytes(tower, rows, tokens, itemsize(dtype)))


def itemsize(dtype: str) -> int:
    """Bytes of a number."""
    return 4 if dtype == "float32" else 2


def weight_bytes(checkpoint: Checkpoint, dtype: str, platform: str) -> int:
    """Of a network's variables. A CPU, which computes in 32 bits, holds a copy of layers of shorter ones beside them.

    Raises:
        DataError: as the network does, of whose construction nothing but shapes is computed.
    """
    each, total = itemsize(dtype), 0
    network = nnx.eval_shape(lambda: checkpoint.network(checkpoint.config, rngs=nnx.Rngs(0)))
    for path, variable in nnx.to_flat_state(nnx.state(network)):
        copied = platform == "cpu" and each == 2 and "layers" in path and path[0] != "text"
        total += math.prod(variable.shape) * (each + 4 * copied)
    return total


def layer_bytes(tower: Any, rows: int, tokens: int, each: int, matrices: int = 2) -> int:
    """Of activations while sequences [rows, tokens] go through a layer: the larger of its halves, and its input.

    matrices: of the feed-forward network. Softmax is in float32, and so is what a norm makes of its input.
    """
    heads, size = tower.num_attention_heads, head_dim(tower)
    inner = getattr(tower, "intermediate_size", 4 * tower.hidden_size)  # DINOv2's config has none
    attending = rows * heads * tokens * (tokens * (8 + each) + 4 * size * each)
    feeding = rows * tokens * inner * (matrices * each + 8)
    return rows * tokens * tower.hidden_size * (2 * each + 4) + max(attending, feeding)


def kept_bytes(tower: Any, rows: int, tokens: int, each: int, keep_layers: int) -> int:
    """Of the hidden states that are kept, twice, and their sum in float32."""
    return rows * tokens * tower.hidden_size * (2 * keep_layers * each + 4)


KNOBS = {  # of a section of the settings, by what it encodes
    "speech": "lower {}.batch_seconds",
    "image": "lower {}.batch_frames",
    "text": "lower {}.batch_tokens",
    "video": "lower {}.batch_frames",
    "tune": "set {0}.micro_batch=1, or {0}.remat",
}


def check_memory(section: str, source: str, needed: Needed, available: int, encodes: str = "") -> Iterator[str]:
    """A note where what a section of the settings asks for may be too large for a device.

    encodes: a key of KNOBS; by default the section's name.

    Raises:
        DataError: it is.
    """
    total, knob = needed.weights + needed.batch, KNOBS[encodes or section.rpartition(".")[2]].format(section)
    line = (
        f"{section}: {source} takes about {size_text(total)} of a device's {size_text(available)}, its weights "
        f"{size_text(needed.weights)}"
    )
    if needed.weights > available:
        raise DataError(f"{line}: take a smaller checkpoint (encoders=base), or leave it out (modalities=...)")
    if needed.weights + needed.batch / 2 > available:
        raise DataError(f"{line}: {knob}")
    if total > available:
        yield f"{line}: if that is too much, {knob}"
