"""The bundled speech encoder, made by pretrain/hubert.py."""

from importlib import resources

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoFeatureExtractor, HubertModel

from mer_jax.features.readers import SpeechReader
from mer_jax.models.hubert import Hubert
from tests.models.test_hubert import torch_hidden_states
from tests.oracle import load_torch

FOLDER = resources.files("mer_jax") / "assets" / "hubert"
PITCH = 37  # channel of the frame feature: octaves above 150 Hz, standardised, see pretrain/acoustics.py


@pytest.fixture(scope="module")
def model():
    return Hubert.from_pretrained(FOLDER)


def frame_feature(model, waveforms):
    """[B, T, D]"""
    lengths = jnp.full(len(waveforms), waveforms.shape[1])
    return np.asarray(model(jnp.asarray(waveforms), lengths).hidden_states.sum(axis=0))


def buzz(pitch, seconds=1.0):
    phase = np.arange(int(16_000 * seconds)) * pitch / 16_000 % 1
    wave = phase**3
    return ((wave - wave.mean()) / wave.std()).astype(np.float32)


def test_it_equals_transformers(model, oracle):
    waveforms = np.random.default_rng(0).normal(size=(2, 8_000)).astype(np.float32)
    expected = oracle(
        "assets/hubert", lambda: {"feature": torch_hidden_states(load_torch(HubertModel, FOLDER), waveforms, 4).sum(0)}
    )
    np.testing.assert_allclose(frame_feature(model, waveforms), expected["feature"], atol=1e-4)


def test_the_feature_tells_pitch(model):
    low, high = frame_feature(model, np.stack([buzz(110), buzz(220)])).mean(axis=1)[:, PITCH]
    assert high - low > 0.5


def test_the_feature_extractor_normalises_as_our_reader_does():
    waveform = np.random.default_rng(0).integers(-3000, 9000, 16_000, np.int16)
    extractor = AutoFeatureExtractor.from_pretrained(FOLDER)
    (expected,) = extractor(waveform / 32768, sampling_rate=16_000, return_tensors="np")["input_values"]
    (chunk,) = SpeechReader(16_000, 1.0).chunks(waveform)
    mean, scale = chunk.side
    np.testing.assert_allclose((chunk.data / 32768 - mean) * scale, expected, atol=1e-5)
    with pytest.raises(ValueError, match="16000"):
        extractor(waveform, sampling_rate=8_000)
