"""Speaks nonsense: a speaker and a delivery give a waveform of syllables, consonants, pauses and intonation.

A source-filter synthesiser on frames of 10 ms. Pulses at the pitch and noise are the sources; per frame the vocal
tract (a cascade of formant resonators) and the spectral tilt shape their short-time spectra.
"""

from dataclasses import astuple, dataclass

import numpy as np

from mer_jax.data.sample.persons import Speaker

SAMPLE_RATE = 16000
HOP, WINDOW, FFT = 160, 320, 512
FREQUENCIES = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
OCTAVES = np.log2(np.maximum(FREQUENCIES, 100) / 500)

# Resonances of an adult male tract in Hz: a i u e o, schwa, ü, open e. The two highest hardly move.
VOWELS = np.array([
    (730, 1090, 2440), (270, 2290, 3010), (310, 870, 2240), (440, 1950, 2600),
    (500, 840, 2410), (500, 1450, 2450), (290, 1850, 2250), (600, 1720, 2410),
])  # fmt: skip
UPPER_FORMANTS = (3500, 4500)
BANDWIDTHS = (70, 90, 130, 200, 300)
FRICATIVES = np.array([2200, 3400, 4800, 6200])  # centre of the noise of h, x, sh, s in Hz
# Rise and fall within a syllable, as the four tones of Mandarin and an unstressed one: start, middle, end.
TONES = np.array([(0.6, 0.6, 0.6), (-0.5, 0.0, 0.9), (-0.4, -1.0, -0.2), (1.0, 0.3, -0.9), (-0.2, -0.2, -0.3)])


@dataclass(frozen=True)
class Delivery:
    """How something is said; 0 is calm speech, 1 the strongest natural change, negatives its opposite."""

    pitch: float = 0.0
    pitch_range: float = 0.0
    contour: float = 0.0  # pitch climbs, or falls, towards the end
    dynamics: float = 0.0  # loud, with strong stresses and hard onsets
    tilt: float = 0.0  # a pressed, bright voice, or a soft, dark one
    tempo: float = 0.0
    pauses: float = 0.0
    tremor: float = 0.0
    breath: float = 0.0

    def __add__(self, other: "Delivery") -> "Delivery":
        return Delivery(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> "Delivery":
        return Delivery(*(factor * value for value in astuple(self)))


# Anger, joy and surprise share their energy, sadness and calm their slowness: these get confused.
VOICES: dict[str, Delivery] = {
    "neutral": Delivery(),
    "angry": Delivery(pitch=0.5, pitch_range=0.3, contour=-0.5, dynamics=1, tilt=1, tempo=0.7, pauses=-0.5),
    "happy": Delivery(pitch=0.6, pitch_range=0.8, contour=0.3, dynamics=0.5, tilt=0.4, tempo=0.45, pauses=-0.3),
    "sad": Delivery(
        pitch=-0.3, pitch_range=-0.7, contour=-0.1, dynamics=-0.6, tilt=-0.55, tempo=-0.6, pauses=0.7, breath=0.5
    ),
    "worried": Delivery(pitch=0.4, pitch_range=-0.2, contour=0.2, tilt=-0.1, pauses=0.7, tremor=1, breath=0.4),
    "surprise": Delivery(pitch=1.1, pitch_range=0.9, contour=1, dynamics=0.5, tilt=0.3, tempo=0.1),
}


def synthesise(
    speaker: Speaker, delivery: Delivery, seconds: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Speaks for `seconds` (at least 0.4), rounded to 10 ms.

    Returns:
        waveform [S] float32 in [-1, 1] at 16 kHz; its loudness per 10 ms, [S / 160] float32 in [0, 1].
    """
    frames = round(seconds * SAMPLE_RATE / HOP)
    syllable, position = _syllables(delivery, frames, rng)  # [T], [T] in [0, 1], outside of it in a pause
    pitch = _pitch(speaker, delivery, syllable, position, rng)  # [T]

    spoken = (position >= 0) & (position <= 1)
    consonant = rng.uniform(0.0, 0.35, frames)[syllable]  # the share of a syllable before its vowel
    hissing = (rng.random(frames) < 0.5)[syllable]
    in_vowel = spoken & (position > consonant)
    stress = rng.normal(0.0, 2.0 + 3.0 * max(0.0, 0.5 + delivery.dynamics), frames)[syllable]  # dB
    attack = 0.35 - 0.2 * delivery.dynamics
    arch = np.clip(np.minimum((position - consonant) / attack, (1 - position) / 0.4), 0, 1)
    shake = 1 - 0.3 * abs(delivery.tremor) * rng.random() * _wobble(frames, 6.0, rng)
    voice = _smooth(in_vowel * arch * shake * 10 ** (stress / 20))
    hiss = _smooth(spoken * ~in_vowel * hissing * rng.uniform(0.1, 0.4, frames)[syllable])

    vowels = VOWELS[rng.integers(len(VOWELS), size=frames)][syllable]  # [T, 3]
    tract = _tract(speaker, np.stack([_smooth(formant) for formant in vowels.T], axis=-1))  # [T, F]
    slope = speaker.tilt - 7.0 + 4.0 * delivery.tilt + 0.15 * stress  # dB per octave, [T]
    glottis = 10 ** (np.outer(slope, OCTAVES) / 20)
    breath = max(0.0, speaker.breath * (1 + 2 * delivery.breath)) * 10 ** (-np.abs(OCTAVES) / 10)
    center = FRICATIVES[rng.integers(len(FRICATIVES), size=frames)][syllable]
    friction = np.exp(-0.5 * np.square((FREQUENCIES - center[:, None]) / 1200))
    turbulence = hiss[:, None] * friction + (voice[:, None] * breath) * np.abs(tract)

    noise = rng.normal(0.0, 1.0, frames * HOP)
    spectrum = _analyse(_pulses(pitch)) * (voice[:, None] * glottis * tract) + _analyse(noise) * turbulence
    waveform = _overlap_add(spectrum)
    loud = 0.12 * 10 ** (0.3 * delivery.dynamics)
    waveform *= loud / (np.sqrt(np.mean(np.square(waveform))) + 1e-9)
    waveform = np.tanh(waveform + rng.uniform(0.0005, 0.003) * noise)  # the room; nothing clips
    loudness = np.sqrt(np.mean(np.square(waveform.reshape(frames, HOP)), axis=1))
    return waveform.astype(np.float32), (loudness / loudness.max()).astype(np.float32)


def _syllables(delivery: Delivery, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For every frame the syllable it belongs to and how far through that one is, beyond 1 in the pause after it."""
    length = rng.uniform(13, 24, frames) * 1.7 ** -(delivery.tempo + rng.normal(0, 0.12))
    length = np.minimum(length, frames / 2)  # at least one syllable fits
    paused = rng.random(frames) < np.clip(0.1 * (1 + 2.5 * delivery.pauses), 0.02, 0.5)
    gap = np.where(paused, rng.uniform(10, 28, frames) * 1.8**delivery.pauses, 0)
    start = rng.uniform(4, 12) + np.cumsum(length + gap) - (length + gap)
    fits = start + length <= frames - 4
    start, length = start[fits], length[fits]
    time = np.arange(frames)
    syllable = np.maximum(np.searchsorted(start, time, side="right") - 1, 0)
    return syllable, (time - start[syllable]) / length[syllable]


def _pitch(
    speaker: Speaker, delivery: Delivery, syllable: np.ndarray, position: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[T] Hz."""
    frames = len(syllable)
    tones = TONES[rng.integers(len(TONES), size=frames)][syllable]  # [T, 3]
    within = np.clip(position, 0, 1)
    tone = np.where(
        within < 0.5,
        tones[:, 0] + 2 * within * (tones[:, 1] - tones[:, 0]),
        tones[:, 1] + (2 * within - 1) * (tones[:, 2] - tones[:, 1]),
    )
    swing = 1.8 * 2.2**delivery.pitch_range * rng.uniform(0.85, 1.15)
    through = np.linspace(0, 1, frames)
    semitones = (
        5.5 * delivery.pitch
        + rng.normal(0, 0.6)
        + swing * (tone + rng.normal(0, 0.4, frames)[syllable])
        + (6 * delivery.contour - 1) * (through**1.5 - 0.4)
        + 1.1 * delivery.tremor * _wobble(frames, rng.uniform(6, 9), rng)
    )
    return speaker.pitch * 2 ** (_smooth(semitones) / 12)


def _wobble(frames: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """[T] in [-1, 1], a sine of `rate` Hz whose speed is unsteady."""
    return np.sin(np.cumsum(2 * np.pi * rate * HOP / SAMPLE_RATE * rng.uniform(0.6, 1.4, frames)))


def _smooth(contour: np.ndarray) -> np.ndarray:
    """Moves like an articulator: nothing changes within less than some 30 ms."""
    return np.convolve(np.pad(contour, 2, mode="edge"), (0.1, 0.25, 0.3, 0.25, 0.1), mode="valid")


def _tract(speaker: Speaker, vowels: np.ndarray) -> np.ndarray:
    """[T, 3] formants in Hz -> [T, F] complex, the response of five resonators in a row."""
    response = np.ones((), complex)
    formants = [*vowels.T, *UPPER_FORMANTS]
    for formant, bandwidth in zip(formants, BANDWIDTHS, strict=True):
        center = np.reshape(speaker.formants * formant, (-1, 1))
        response = response * (center**2 / (center**2 - FREQUENCIES**2 + 1j * bandwidth * FREQUENCIES))
    return response


def _pulses(pitch: np.ndarray) -> np.ndarray:
    """[T] Hz -> [S], one pulse per period, put between two samples where it falls, energy independent of pitch."""
    per_sample = np.interp(np.arange(len(pitch) * HOP) / HOP, np.arange(len(pitch)), pitch)
    phase = np.cumsum(per_sample) / SAMPLE_RATE
    last = np.flatnonzero(np.diff(np.floor(phase)) > 0)
    share = (phase[last + 1] % 1) * SAMPLE_RATE / per_sample[last]
    pulses = np.zeros(len(phase))
    height = np.sqrt(SAMPLE_RATE / per_sample[last])
    pulses[last] = height * share
    pulses[last + 1] += height * (1 - share)
    return pulses


def _analyse(source: np.ndarray) -> np.ndarray:
    """[S] -> [T, F] short-time spectra of windows that add up to the source."""
    padded = np.pad(source, (0, WINDOW - HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.fft.rfft(windows * np.hanning(WINDOW + 1)[:-1], FFT)


def _overlap_add(spectrum: np.ndarray) -> np.ndarray:
    """[T, F] -> [S], the inverse of `_analyse`."""
    frames = len(spectrum)
    pieces = np.fft.irfft(spectrum, FFT)
    steps = -(-FFT // HOP)
    pieces = np.pad(pieces, ((0, 0), (0, steps * HOP - FFT))).reshape(frames, steps, HOP)
    out = np.zeros((frames + steps - 1, HOP))
    for step in range(steps):
        out[step : step + frames] += pieces[:, step]
    return out[:frames].reshape(-1)
