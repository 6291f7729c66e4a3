"""Sounds to pretrain on: synthetic voices of all kinds, and tones and noises that no voice makes.

No clip of the bundled sample is among them: speakers, deliveries and seeds are drawn here.
"""

import numpy as np

from mer_jax.data.sample.persons import Speaker
from mer_jax.data.sample.voice import SAMPLE_RATE, VOICES, Delivery, synthesise

SAMPLES = 2 * SAMPLE_RATE
VOICED = 0.7  # share of clips with a voice


def random_sound(seed: tuple[int, int]) -> np.ndarray:
    """[SAMPLES] float32 with zero mean and unit variance."""
    rng = np.random.default_rng(seed)
    if rng.random() < VOICED:
        sound = filtered(random_voice(rng), 5.0, rng)
    else:
        sound = fade(filtered(random_source(rng), 15.0, rng), filtered(random_source(rng), 15.0, rng), rng)
    noise = filtered(rng.normal(size=SAMPLES), 8.0, rng)
    level = 10 ** (-rng.uniform(15, 60) / 20)
    sound = unit(unit(sound) + level * unit(noise))
    return sound.astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-7)


def random_voice(rng: np.random.Generator) -> np.ndarray:
    """Speakers from child to bass; a delivery between two emotions, and beyond."""
    speaker = Speaker(
        pitch=85 * 2 ** rng.uniform(0, 1.7),
        formants=rng.uniform(0.85, 1.3),
        tilt=rng.normal(0, 3),
        breath=rng.uniform(0, 0.15),
    )
    first, second = rng.choice(list(VOICES), 2)
    share = rng.random()
    mixture = VOICES[first] * share + VOICES[second] * (1 - share)
    delivery = mixture * rng.uniform(0, 1.3) + Delivery(*rng.normal(0, 0.3, 9).tolist())
    return synthesise(speaker, delivery, SAMPLES / SAMPLE_RATE, rng)[0]


def random_source(rng: np.random.Generator) -> np.ndarray:
    """A buzz or a hiss that comes and goes."""
    if rng.random() < 0.6:
        pitch = 70 * 2 ** np.clip(contour(rng, knots=6, spread=0.5) + rng.uniform(0, 2.8), 0, 2.8)  # 70 to 490 Hz
        phase = np.cumsum(pitch) / SAMPLE_RATE
        source = (phase % 1) ** rng.uniform(1, 8) - 0.5
    else:
        source = rng.normal(size=SAMPLES)
    return source * np.exp(contour(rng, knots=int(rng.integers(3, 16)), spread=1.5))


def fade(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """To and fro between two sounds."""
    share = 1 / (1 + np.exp(-contour(rng, knots=8, spread=3.0)))
    return share * unit(a) + (1 - share) * unit(b)


def contour(rng: np.random.Generator, knots: int, spread: float) -> np.ndarray:
    """[SAMPLES], straight lines between random values."""
    return np.interp(np.linspace(0, knots - 1, SAMPLES), np.arange(knots), rng.normal(0, spread, knots))


def filtered(x: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Through a random smooth filter whose gain strays by `spread` dB and tilts."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), 50) / 50)
    knots = np.arange(10)
    gain = np.interp(octaves, knots, rng.normal(0, spread, len(knots)) - rng.uniform(0, 0.6 * spread) * knots)
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (gain / 20), len(x))
