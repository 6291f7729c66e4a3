"""The voice keeps its limits, follows its seed, and each control moves what it names."""

import numpy as np
import pytest

from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.persons import Speaker
from mer_jax.data.sample.voice import HOP, SAMPLE_RATE, VOICES, Delivery, synthesise

SPEAKER = Speaker(pitch=120, formants=1.0, tilt=0.0, breath=0.03)


def speak(delivery, seed=0, seconds=2.0, speaker=SPEAKER):
    return synthesise(speaker, delivery, seconds, np.random.default_rng(seed))


def pitch_track(waveform):
    """Hz of the loud frames, from the highest peak of each frame's autocorrelation between 60 and 500 Hz."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 640)[::HOP]
    windows = windows[np.sqrt(np.mean(windows**2, axis=1)) > 0.5 * np.sqrt(np.mean(waveform**2))]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(640), 2048)) ** 2
    spectra[:, 180:] = 0  # below 1.4 kHz
    correlation = np.fft.irfft(spectra)[:, 32:267]
    return SAMPLE_RATE / (32 + correlation.argmax(axis=1))


def average(measure, delivery):
    return np.mean([measure(*speak(delivery, seed, 3.0)) for seed in range(12)])


def median_pitch(waveform, loudness):
    return np.median(pitch_track(waveform))


def pitch_spread(waveform, loudness):
    low, high = np.quantile(np.log2(pitch_track(waveform)), (0.1, 0.9))
    return high - low


def silence(waveform, loudness):
    return np.mean(loudness < 0.1)


def brightness(waveform, loudness):
    """Share of the energy above 1 kHz in dB."""
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return 10 * np.log10(power[len(power) // 8 :].sum() / power.sum())


def level(waveform, loudness):
    return np.sqrt(np.mean(waveform**2))


def syllable_rate(waveform, loudness):
    """Crossings of half the loudness per frame."""
    return np.mean(np.diff(loudness > 0.3) != 0)


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_shapes_and_limits(emotion, strength):
    for seed, seconds in enumerate((0.4, 1.0, 2.715)):
        waveform, loudness = speak(VOICES[emotion] * strength, seed, seconds)
        frames = round(100 * seconds)
        assert waveform.shape == (HOP * frames,) and waveform.dtype == np.float32
        assert loudness.shape == (frames,) and loudness.dtype == np.float32
        assert np.abs(waveform).max() <= 1 and waveform.std() > 0.02
        assert loudness.min() >= 0 and loudness.max() == 1


def test_same_seed_same_voice():
    for first, again in zip(speak(VOICES["happy"], 3), speak(VOICES["happy"], 3), strict=True):
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(speak(VOICES["happy"], 3)[0], speak(VOICES["happy"], 4)[0])


def test_deliveries_mix():
    mixture = VOICES["happy"] * 0.5 + Delivery(tremor=0.25)
    assert mixture.pitch == 0.5 * VOICES["happy"].pitch and mixture.tremor == 0.25


def test_pitch_is_the_speakers():
    for pitch in (100, 200):
        speaker = Speaker(pitch=pitch, formants=1.0, tilt=0.0, breath=0.03)
        tracks = [pitch_track(speak(Delivery(), seed, 3.0, speaker)[0]) for seed in range(8)]
        assert abs(np.log2(np.median(np.concatenate(tracks)) / pitch)) < 0.15


@pytest.mark.parametrize(
    ("control", "measure", "gain"),
    [
        ("pitch", median_pitch, 20.0),
        ("pitch_range", pitch_spread, 0.1),
        ("pauses", silence, 0.1),
        ("tilt", brightness, 3.0),
        ("dynamics", level, 0.03),
        ("tempo", syllable_rate, 0.02),
    ],
)
def test_a_control_moves_what_it_names(control, measure, gain):
    assert average(measure, Delivery(**{control: 1.0})) > average(measure, Delivery(**{control: -1.0})) + gain


def test_emotions_differ_as_described():
    def order(measure, *emotions):
        values = [average(measure, VOICES[emotion]) for emotion in emotions]
        assert values == sorted(values) and len(set(values)) == len(values)

    assert set(VOICES) == set(EMOTIONS)
    order(median_pitch, "sad", "neutral", "happy", "surprise")
    order(pitch_spread, "sad", "neutral", "happy")
    order(silence, "happy", "neutral", "sad")
    order(brightness, "sad", "neutral", "angry")
    order(level, "sad", "neutral", "angry")
