"""Whisper's log-mel spectrogram as matrix products on the device (transformers `WhisperFeatureExtractor`)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from transformers.audio_utils import mel_filter_bank

RATE, WINDOW, HOP = 16_000, 400, 160  # Hz; samples
OVERLAP = -(-WINDOW // HOP)  # hops that a window reaches into


@lru_cache
def waves_and_filters(bins: int) -> tuple[Float[np.ndarray, "480 402"], Float[np.ndarray, "201 {bins}"]]:
    """Cosines and sines of all frequencies under a Hann window, zero behind it; the mel filters on their power."""
    samples, frequencies = np.arange(WINDOW), np.arange(WINDOW // 2 + 1)
    angles = 2 * np.pi / WINDOW * (np.outer(samples, frequencies) % WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * samples / WINDOW)
    waves = hann[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    filters = mel_filter_bank(len(frequencies), bins, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return np.pad(waves, ((0, OVERLAP * HOP - WINDOW), (0, 0))).astype(np.float32), filters.astype(np.float32)


@jax.named_scope("log_mel")
def log_mel(waveform: Float[Array, "B S"], bins: int) -> Float[Array, "B T {bins}"]:
    """Sound in [-1, 1] of 16 kHz, whole hops of it -> a frame for each hop, float32.

    What is more than 8 (of the logarithm to base 10) below a row's loudest value is raised to that.
    """
    waves, filters = waves_and_filters(bins)
    frames = waveform.shape[1] // HOP
    x = jnp.pad(waveform, ((0, 0), (WINDOW // 2, WINDOW // 2)), mode="reflect")[:, : (frames + OVERLAP - 1) * HOP]
    hops = x.reshape(len(x), -1, HOP)
    windows = jnp.concatenate([hops[:, first : first + frames] for first in range(OVERLAP)], axis=-1)  # [B, T, 480]
    exact = jax.lax.Precision.HIGHEST  # in bfloat16, loud frequencies would drown quiet ones
    parts = jnp.square(jnp.matmul(windows, waves, precision=exact))
    power = parts[..., : len(filters)] + parts[..., len(filters) :]  # [B, T, 201]
    log = jnp.log10(jnp.maximum(jnp.matmul(power, filters, precision=exact), 1e-10))
    return (jnp.maximum(log, log.max((1, 2), keepdims=True) - 8) + 4) / 4
