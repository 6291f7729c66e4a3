"""The four frozen encoders as the extraction loop sees them: a reader for the host, a program for the device."""

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
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from transformers import CLIPConfig

from mer_jax.checkpoints.fingerprint import fingerprint
from mer_jax.checkpoints.huggingface import fetch, read_config
from mer_jax.data.clips import Clip
from mer_jax.features.pooling import mean_variance
from mer_jax.features.readers import Chunk, FaceReader, SpeechReader, TextReader, VideoReader
from mer_jax.models.baichuan import Baichuan
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.models.hubert import Hubert
from mer_jax.models.preprocess import clip_pixels
from mer_jax.text.tokenizer import Tokenizer

Embed = Callable[..., tuple[jax.Array, jax.Array]]  # (data, lengths, *side) -> embeddings [B, D], frame counts [B]


@dataclass(frozen=True)
class Encoder:
    """One modality's encoder.

    load: builds the device program; called only when something is not in the store yet.
    buckets: the lengths that chunks are padded to. budget: padded elements in a batch.
    """

    modality: str
    reader: Any  # Clip -> list[Chunk], with identity(clip)
    fingerprint: str
    load: Callable[[], Embed]
    buckets: tuple[int, ...]
    budget: int

    def key(self, clip: Clip) -> str:
        """Identifies a clip's entry in this encoder's store."""
        return hashlib.blake2b(f"{clip.name}|{self.reader.identity(clip)}".encode(), digest_size=16).hexdigest()

    def bucket(self, chunk: Chunk) -> int:
        """The smallest bucket that holds a chunk."""
        return next(bucket for bucket in self.buckets if bucket >= len(chunk.data))

    def batch_size(self, bucket: int) -> int:
        """Clips in a batch of a bucket: fills the budget, divides over the local devices."""
        devices = jax.local_device_count()
        return devices * max(1, self.budget // (bucket * devices))


def data_sharding() -> NamedSharding:
    """The batch axis over every local device."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("data",)), PartitionSpec("data"))


def replicated(tree: Any) -> Any:
    """A pytree with a copy on every local device."""
    return jax.device_put(tree, NamedSharding(data_sharding().mesh, PartitionSpec()))


def frozen_program(model: nnx.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """jit of function(model, *arrays), the weights replicated and passed as an argument, not as constants."""
    graphdef, state = nnx.split(model)
    program = jax.jit(lambda state, *arrays: function(nnx.merge(graphdef, state), *arrays))
    return partial(program, replicated(state))


def identify(source: str, settings: Mapping[str, Any]) -> str:
    """Fingerprint of an encoder's weights together with its preprocessing settings."""
    text = fingerprint(fetch(source)) + json.dumps(dict(settings), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def clip_image_size(source: str) -> int:
    """Side in pixels of the images that a CLIP checkpoint takes."""
    return read_config(fetch(source), {"clip": CLIPConfig}).vision_config.image_size


def speech_encoder(settings: Any) -> Encoder:
    """HuBERT: sum of the last layers' hidden states, mean and variance over time."""
    rate, seconds = settings.sample_rate, settings.chunk_seconds

    def embed(model: Hubert, waveform: jax.Array, lengths: jax.Array, mean: jax.Array, scale: jax.Array):
        normal = (waveform.astype(jnp.float32) / 32768 - mean[:, None]) * scale[:, None]
        real = jnp.arange(waveform.shape[1]) < lengths[:, None]
        out = model(jnp.where(real, normal, 0.0), lengths, keep_layers=settings.keep_layers)
        return mean_variance(out.hidden_states.sum(0, dtype=jnp.float32), out.lengths), out.lengths

    return Encoder(
        modality="speech",
        reader=SpeechReader(rate, seconds),
        fingerprint=identify(settings.source, settings),
        load=lambda: frozen_program(Hubert.from_pretrained(settings.source, dtype=settings.dtype), embed),
        buckets=tuple(int(rate * bucket) for bucket in (*settings.buckets_seconds, seconds)),
        budget=int(rate * settings.batch_seconds),
    )


def image_encoder(settings: Any) -> Encoder:
    """CLIP on every aligned face, mean and variance over frames."""
    size = clip_image_size(settings.source)

    def encode(model: CLIP, pixels: jax.Array, lengths: jax.Array):
        frames = model.encode_image(pixels.reshape(-1, *pixels.shape[2:]))
        return mean_variance(frames.reshape(*pixels.shape[:2], -1).astype(jnp.float32), lengths), lengths

    def load() -> Embed:
        resize = jax.jit(clip_pixels)
        program = frozen_program(CLIP.from_pretrained(settings.source, dtype=settings.dtype), encode)
        return lambda frames, lengths, rows, columns: program(resize(frames, rows, columns), lengths)

    return Encoder(
        modality="image",
        reader=FaceReader(size, max(settings.buckets_frames)),
        fingerprint=identify(settings.source, settings),
        load=load,
        buckets=tuple(settings.buckets_frames),
        budget=settings.batch_frames,
    )


def text_encoder(settings: Any, rankings: Mapping[str, Sequence[str]], template: str) -> Encoder:
    """Baichuan on ranking and transcript: sum of the last layers' hidden states, mean and variance over tokens."""

    def embed(model: Baichuan, tokens: jax.Array, lengths: jax.Array):
        out = model(tokens, lengths, keep_layers=settings.keep_layers)
        return mean_variance(out.hidden_states.sum(0, dtype=jnp.float32), out.lengths), out.lengths

    tokenizer = Tokenizer(fetch(settings.source))
    return Encoder(
        modality="text",
        reader=TextReader(tokenizer.encode, rankings, template, max(settings.buckets_tokens)),
        fingerprint=identify(settings.source, settings),
        load=lambda: frozen_program(Baichuan.from_pretrained(settings.source, dtype=settings.dtype), embed),
        buckets=tuple(settings.buckets_tokens),
        budget=settings.batch_tokens,
    )


def video_encoder(settings: Any, model: EmoVCLIP, prompts: Any) -> Encoder:
    """EmoVCLIP with R sets of prompts on one backbone: a clip's embedding is [R, P], one row per set.

    model: gives the backbone. prompts: its Prompt state with a leading axis R.
    """

    def load() -> Embed:
        graphdef, _, backbone = nnx.split(model, Prompt, ...)  # type: ignore[misc]

        @jax.jit
        def encode(backbone, prompts, pixels, lengths):
            mask = jnp.arange(pixels.shape[1]) < lengths[:, None]
            one_set = lambda own: nnx.merge(graphdef, own, backbone).encode_video(pixels, mask)  # noqa: E731
            return jax.vmap(one_set, out_axes=1)(prompts), lengths

        resize = jax.jit(clip_pixels)
        weights = replicated((backbone, prompts))
        return lambda frames, lengths, rows, columns: encode(*weights, resize(frames, rows, columns), lengths)

    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(prompts):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return Encoder(
        modality="video",
        reader=VideoReader(clip_image_size(settings.source), settings.num_frames),
        fingerprint=identify(settings.source, {**settings, "prompts": digest.hexdigest()}),
        load=load,
        buckets=(settings.num_frames,),
        budget=settings.batch_frames,
    )
