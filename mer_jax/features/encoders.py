"""The frozen encoders as the extraction loop sees them: a reader for the host, a program for the device."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from mer_jax.checkpoints.huggingface import fetch, fingerprint
from mer_jax.data.clips import Clip
from mer_jax.features.checkpoint_folders import frames_as_trained, sound_as_trained, text_tokenizer
from mer_jax.features.encoder_settings import (
    POOLING,
    EncoderSettings,
    ImageSettings,
    SpeechSettings,
    TextSettings,
    VideoSettings,
)
from mer_jax.features.memory import images_at_once
from mer_jax.features.networks import checkpoint_of
from mer_jax.features.pooling import mean_variance
from mer_jax.features.readers import Chunk, FaceReader, SpeechReader, TextReader, VideoReader
from mer_jax.models.baichuan import Baichuan
from mer_jax.models.bert import Bert
from mer_jax.models.clip import CLIP
from mer_jax.models.dinov2 import Dinov2
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.models.hubert import Hubert
from mer_jax.models.preprocess import Preprocessing, clip_pixels
from mer_jax.models.siglip import Siglip
from mer_jax.models.whisper import Whisper
from mer_jax.runtime.devices import device_of, frozen_program, local_mesh
from mer_jax.runtime.errors import UsageError

KERNELS = {"cudnn": ("gpu", "an NVIDIA GPU"), "pallas": ("tpu", "a TPU")}  # of attention, and what they are for
Embed = Callable[..., tuple[jax.Array, jax.Array]]  # (data, lengths, *side) -> embeddings [B, D], frame counts [B]


@dataclass(frozen=True)
class Encoder:
    """One modality's encoder."""

    modality: str
    reader: Any  # see mer_jax/features/readers.py
    fingerprint: str
    load: Callable[[], Embed]  # builds the device program; called only when something is not in the store yet
    buckets: tuple[int, ...]  # the lengths that chunks are padded to
    budget: int  # padded elements in the part of a batch that goes to one copy of the weights
    model_parallel: int = 1  # local devices that share one copy of the weights
    pooling: str = POOLING[0]  # of what `load`'s program gives, mean and variance, what is taken

    def key(self, clip: Clip) -> str:
        """Identifies a clip's entry in this encoder's store."""
        corrupted = f"|{clip.corruption}" if clip.corruption else ""
        name = f"{clip.name}|{self.reader.identity(clip)}{corrupted}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def bucket(self, chunk: Chunk) -> int:
        """The smallest bucket that holds a chunk."""
        return next(bucket for bucket in self.buckets if bucket >= len(chunk.data))

    @property
    def copies(self) -> int:
        """How many copies of the weights the local devices hold."""
        return local_mesh(self.model_parallel).shape["data"]

    def batch_size(self, bucket: int) -> int:
        """Chunks in a batch of a bucket: fills the budget of every copy of the weights."""
        return self.copies * max(1, self.budget // bucket)

    def sharding(self) -> NamedSharding:
        """The batch axis over the copies of the weights."""
        return NamedSharding(local_mesh(self.model_parallel), PartitionSpec("data"))


def identify(source: str, **preprocessing: Any) -> str:
    """Fingerprint of an encoder's weights together with every setting that its features depend on.

    By `attention` they differ no more than by the kind of device, both of which are left out: in rounding.
    """
    text = fingerprint(fetch(source)) + json.dumps(preprocessing, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def check_encoders(settings: EncoderSettings, modalities: Sequence[str]) -> None:
    """Raises the error that an encoder of these modalities would raise, before any work and without the weights."""
    (platform,) = {device.platform for device in jax.local_devices()}
    for modality in modalities:
        kernel = getattr(settings, modality).attention
        needed, name = KERNELS.get(kernel, (platform, ""))
        if needed != platform:
            raise UsageError(f"encoders.{modality}.attention={kernel} needs {name}, and this is a {platform}: auto")
    if "speech" in modalities:
        sound_as_trained(settings.speech.source, settings.speech.sample_rate, settings.speech.keep_layers)
    if "text" in modalities:
        text_tokenizer(settings.text.source, settings.text.keep_layers, max(settings.text.buckets_tokens))
    if "image" in modalities:
        frames_as_trained(settings.image.source, "image")
    if "video" in modalities:
        frames_as_trained(settings.video.source, "video")


def embed_speech(
    model: Hubert | Whisper,
    waveform: jax.Array,
    lengths: jax.Array,
    mean: jax.Array,
    scale: jax.Array,
    *,
    keep_layers: int,
) -> tuple[jax.Array, jax.Array]:
    """Sum of the last layers' hidden states, mean and variance over time (spec: Speech).

    waveform [B, S] int16; mean, scale [B]: of the whole clip that a row is a chunk of.
    """
    normal = (waveform.astype(jnp.float32) / 32768 - mean[:, None]) * scale[:, None]
    real = jnp.arange(waveform.shape[1]) < lengths[:, None]
    out = model(jnp.where(real, normal, 0.0), lengths, keep_layers=keep_layers)
    return mean_variance(summed(out.hidden_states), out.lengths), out.lengths


def summed(hidden_states: jax.Array) -> jax.Array:
    """[layers, B, T, D] -> [B, T, D], float32. One by one, or XLA would put them side by side in memory for it."""
    return sum(state.astype(jnp.float32) for state in hidden_states)


def embed_images(model: CLIP | Dinov2 | Siglip, pixels: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An image encoder's features, mean and variance over frames (spec: Image). pixels [B, T, S, S, 3], normalised."""
    return mean_variance(encode_frames(model.encode_image, pixels), lengths), lengths


def embed_video(model: EmoVCLIP, prompts: Any, pixels: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """EmoVCLIP's features by each set of prompts, mean over frames (spec: Video): [B, R, P].

    model: gives the backbone. prompts: its Prompt state with a leading axis R. pixels [B, T, S, S, 3], normalised.
    """
    graphdef, _, backbone = nnx.split(model, Prompt, ...)  # type: ignore[misc]

    def one_set(prompt_set: Any) -> jax.Array:
        frames = encode_frames(nnx.merge(graphdef, prompt_set, backbone).encode_image, pixels)
        mean, _ = jnp.split(mean_variance(frames, lengths), 2, axis=-1)
        return mean

    return jax.lax.map(one_set, prompts).swapaxes(0, 1), lengths


def encode_frames(encode: Callable[[jax.Array], jax.Array], pixels: jax.Array) -> jax.Array:
    """`encode` ([B, S, S, 3] -> [B, P]) of every frame of each clip: [B, T, P] float32.

    On a GPU all at once: the products of few tokens leave many of its processors idle. Elsewhere one frame of each clip
    after the other: the activations of all do not fit in a TPU's on-chip memory, which costs an eighth of its speed
    with 24 faces, where 20 fit, by XLA's estimate. Along time, because the batch is split over devices.
    """
    if device_of(pixels).platform == "gpu":
        return encode(pixels.reshape(-1, *pixels.shape[2:])).reshape(*pixels.shape[:2], -1).astype(jnp.float32)
    return jax.lax.map(encode, pixels.swapaxes(0, 1)).swapaxes(0, 1).astype(jnp.float32)


def embed_text(
    model: Baichuan | Bert, tokens: jax.Array, lengths: jax.Array, *, keep_layers: int, prefix: int = 0, suffix: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Sum of the last layers' hidden states, mean and variance over tokens (spec: Text). tokens [B, L] int32.

    prefix, suffix: tokens that come before and behind every text, which are seen and not pooled.
    """
    out = model(tokens, lengths, keep_layers=keep_layers)
    x, lengths = summed(out.hidden_states)[:, prefix:], jnp.maximum(out.lengths - prefix - suffix, 0)
    return mean_variance(x, lengths), lengths


def resized(program: Callable[..., Any], preprocessing: Preprocessing) -> Embed:
    """Takes frames uint8 and what resizes them (see `frame_chunk`) to a program that takes pixels."""
    resize = jax.jit(partial(clip_pixels, preprocessing=preprocessing))
    return lambda frames, lengths, *side: program(resize(frames, *side), lengths)


def pretrained(modality: str, settings: SpeechSettings | ImageSettings | TextSettings, model_parallel: int = 1) -> Any:
    """The network that a source's config names, with its weights on the local devices."""
    network, mesh = checkpoint_of(settings.source, modality).network, local_mesh(model_parallel)
    return network.from_pretrained(settings.source, settings.dtype, mesh, attention_impl=settings.attention)


def speech_encoder(settings: SpeechSettings) -> Encoder:
    """A speech encoder on the sound."""
    rate, layers = settings.sample_rate, settings.keep_layers
    normalised, whole = sound_as_trained(settings.source, rate, layers)
    seconds, shorter = (whole, ()) if whole else (settings.chunk_seconds, settings.buckets_seconds)
    changes = {} if normalised else {"normalised": False}
    embed = partial(embed_speech, keep_layers=layers)
    return Encoder(
        modality="speech",
        reader=SpeechReader(rate, seconds, normalised),
        fingerprint=identify(
            settings.source, dtype=settings.dtype, rate=rate, seconds=seconds, layers=layers, **changes
        ),
        load=lambda: frozen_program(pretrained("speech", settings), embed),
        buckets=tuple(int(rate * bucket) for bucket in (*shorter, seconds)),
        budget=int(rate * settings.batch_seconds),
    )


def image_encoder(settings: ImageSettings) -> Encoder:
    """An image encoder on every aligned face."""
    side, preprocessing = frames_as_trained(settings.source, "image")
    config = checkpoint_of(settings.source, "image").config
    changes = {"most": settings.most_frames} if settings.most_frames else {}
    return Encoder(
        modality="image",
        reader=FaceReader(side, max(settings.buckets_frames), preprocessing, settings.most_frames),
        fingerprint=identify(settings.source, dtype=settings.dtype, **preprocessing.changes, **changes),
        load=lambda: resized(frozen_program(pretrained("image", settings), embed_images), preprocessing),
        buckets=tuple(settings.buckets_frames),
        budget=images_at_once(config, side, settings.batch_frames),
    )


def text_encoder(settings: TextSettings, rankings: Mapping[str, Sequence[str]], template: str) -> Encoder:
    """A language model on ranking and transcript."""
    longest, layers = max(settings.buckets_tokens), settings.keep_layers
    tokenizer = text_tokenizer(settings.source, layers, longest)
    prefix, suffix = tuple(tokenizer.prefix), tuple(tokenizer.suffix)
    changes: dict[str, Any] = {"pipeline": "tokenizer.json"} if tokenizer.has_pipeline else {}
    changes |= {"suffix": suffix} if suffix else {}
    embed = partial(embed_text, keep_layers=layers, prefix=len(prefix), suffix=len(suffix))
    return Encoder(
        modality="text",
        reader=TextReader(tokenizer.encode, rankings, template, longest, prefix, suffix),
        fingerprint=identify(
            settings.source, dtype=settings.dtype, tokens=longest, layers=layers, prefix=prefix, **changes
        ),
        load=lambda: frozen_program(pretrained("text", settings, settings.model_parallel), embed),
        buckets=tuple(settings.buckets_tokens),
        budget=settings.batch_tokens,
        model_parallel=settings.model_parallel,
    )


def video_encoder(settings: VideoSettings, model: EmoVCLIP, prompts: Any) -> Encoder:
    """EmoVCLIP with R sets of prompts on one backbone: a clip's embedding is [R, P]. Arguments as of `embed_video`."""
    side, preprocessing = frames_as_trained(settings.source, "video")

    def load() -> Embed:
        graphdef, state = nnx.split(model)
        weights, sets = jax.device_put((state, prompts), NamedSharding(local_mesh(), PartitionSpec()))
        return resized(partial(frozen_program(nnx.merge(graphdef, weights), embed_video), sets), preprocessing)

    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(prompts):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return Encoder(
        modality="video",
        reader=VideoReader(side, settings.num_frames, preprocessing=preprocessing),
        fingerprint=identify(
            settings.source,
            dtype=settings.dtype,
            frames=settings.num_frames,
            prompts=digest.hexdigest(),
            **preprocessing.changes,
        ),
        load=load,
        buckets=(settings.num_frames,),
        budget=settings.batch_frames,
    )
