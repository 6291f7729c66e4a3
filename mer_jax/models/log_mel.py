"""Whisper's log-mel spectrogram as matrix products on the device (transformers `WhisperFeatureExtractor`)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.runtime.array_types import Array, Float

RATE, WINDOW, HOP = 16_000, 400, 160  # Hz; samples
OVERLAP = -(-WINDOW // HOP)  # hops that a window reaches into


@lru_cache
def waves_and_filters(bins: int) -> tuple[Float[np.ndarray, "480 402"], Float[np.ndarray, "201 {bins}"]]:
    """Cosines and sines of all frequencies under a Hann window, zero behind it; the mel filters on their power."""
    samples, frequencies = np.arange(WINDOW), np.arange(WINDOW // 2 + 1)
    angles = 2 * np.pi / WINDOW * (np.outer(samples, frequencies) % WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * samples / WINDOW)
    waves = hann[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    filters = mel_filters(frequencies * (RATE / WINDOW), bins)
    return np.pad(waves, ((0, OVERLAP * HOP - WINDOW), (0, 0))).astype(np.float32), filters.astype(np.float32)


def mel_filters(frequencies: Float[np.ndarray, "N"], bins: int) -> Float[np.ndarray, "N {bins}"]:
    """Triangles of equal area, evenly spaced up to RATE / 2 on Slaney's mel scale: in Hz up to 1 kHz, then in octaves.

    transformers' `mel_filter_bank` gives the same; runs are handed on to where transformers is not.
    """
    octave = np.log(6.4) / 27
    mels = np.linspace(0, 15 + np.log(RATE / 2 / 1000) / octave, bins + 2)
    edges = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp((mels - 15) * octave))  # Hz
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    x = frequencies[:, None]
    return np.maximum(0, np.minimum((x - low) / (peak - low), (high - x) / (high - peak))) * 2 / (high - low)


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
