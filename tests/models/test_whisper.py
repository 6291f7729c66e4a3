"""Whisper's encoder against transformers' torch model and feature extractor, with weights that numpy draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.audio_utils import mel_filter_bank

from mer_jax.features.pooling import mean_variance
from mer_jax.models.log_mel import RATE, log_mel, mel_filters
from mer_jax.models.whisper import Whisper
from tests.models.test_hubert import relative_error
from tests.oracle import load_torch

ENCODER = {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 9}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
SMALL = ENCODER | DECODER | IDS | {"num_mel_bins": 16, "max_source_positions": 50}  # of one second
LENGTHS = (RATE, 5000, 321)


def sounds():
    """[3, one second], which swell, so that windows differ; noise where they have ended."""
    noise = np.random.default_rng(0).standard_normal((3, RATE)) * np.linspace(1e-4, 0.3, RATE)
    return noise.astype(np.float32)


encode = jax.jit(Whisper.__call__, static_argnames="keep_layers")


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    return oracle.checkpoint(folder, "whisper/small", WhisperForConditionalGeneration, WhisperConfig(**SMALL))


def torch_states(folder):
    """Of each clip by itself, as transformers pads and cuts it."""
    import torch

    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    model = load_torch(WhisperForConditionalGeneration, folder).model
    values = {}
    for sound, length in zip(sounds(), LENGTHS, strict=True):
        inputs = extractor(sound[:length], sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
        frames = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum())
        out = model.encoder(inputs["input_features"], output_hidden_states=True)
        states = torch.stack([*out.hidden_states[1:-1], out.last_hidden_state])[:, 0, :frames]
        values |= {f"mel_{length}": inputs["input_features"][0].T, f"states_{length}": states}
        values |= {f"embedded_{length}": out.hidden_states[0][0]}
    return values


@pytest.fixture(scope="module")
def expected(oracle, checkpoint):
    return oracle("whisper/small", lambda: torch_states(checkpoint), tolerance=1e-4)  # torch's own spectrogram


def test_the_spectrogram_is_the_feature_extractors(expected):
    """Which is good to 1e-5 of a value itself (torch's transform in float32)."""
    silent = np.where(np.arange(RATE) < np.array(LENGTHS)[:, None], sounds(), 0)
    ours = jax.jit(log_mel, static_argnums=1)(silent, 16)
    for row, length in zip(ours, LENGTHS, strict=True):
        np.testing.assert_allclose(row, expected[f"mel_{length}"], atol=5e-5)


@pytest.mark.parametrize("bins", [80, 128])
def test_mel_filters_are_those_of_transformers(bins):
    expected = mel_filter_bank(201, bins, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(np.arange(201) * 40.0, bins), expected, atol=1e-12)


def test_each_part_matches_transformers(checkpoint, expected):
    model, length = Whisper.from_pretrained(checkpoint), LENGTHS[1]
    ours = model.embed(jnp.asarray(expected[f"mel_{length}"])[None])
    assert relative_error(ours[0], expected[f"embedded_{length}"]) < 1e-5
    frames = expected[f"states_{length}"].shape[1]
    first = jax.tree.map(lambda leaf: leaf[0], model.layers)
    layer = first(jnp.asarray(expected[f"embedded_{length}"])[None])
    assert relative_error(layer[0, :frames], expected[f"states_{length}"][0]) < 1e-5


def test_clips_padded_into_a_batch_match_transformers_on_each_alone(checkpoint, expected):
    """Frames that hold sound, of a second of sound and silence; what follows a clip in its row is not seen."""
    out = encode(Whisper.from_pretrained(checkpoint), sounds(), jnp.array(LENGTHS), keep_layers=3)
    for row, length in enumerate(LENGTHS):
        states = expected[f"states_{length}"]
        assert out.lengths[row] == states.shape[1]
        assert relative_error(out.hidden_states[:, row, : states.shape[1]], states) < 1e-4


def test_neither_padding_nor_batch_changes_a_bit(checkpoint):
    model, length = Whisper.from_pretrained(checkpoint), LENGTHS[1]
    batch = encode(model, sounds(), jnp.array(LENGTHS), keep_layers=2).hidden_states[:, 1]
    other = np.full((3, 8000), np.nan, np.float32)
    other[1, :length] = sounds()[1, :length]
    np.testing.assert_array_equal(
        batch, encode(model, other, jnp.array([8, length, 0]), keep_layers=2).hidden_states[:, 1]
    )
    with pytest.raises(ValueError, match="16001 samples, but the model takes 16000"):
        model(np.zeros((1, RATE + 1), np.float32), jnp.array([5]))


def test_bfloat16_stays_close(checkpoint):
    exact, rough = (Whisper.from_pretrained(checkpoint, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(rough))} == {jnp.dtype(jnp.bfloat16)}
    outs = [encode(model, sounds(), jnp.array(LENGTHS), keep_layers=2) for model in (exact, rough)]
    assert outs[1].hidden_states.dtype == jnp.bfloat16
    a, b = (np.asarray(mean_variance(out.hidden_states.sum(0, dtype=jnp.float32), out.lengths)) for out in outs)
    assert (np.sum(a * b, axis=1) > 0.999 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


def test_what_is_saved_is_the_encoder_as_it_was_read(checkpoint, tmp_path):
    Whisper.from_pretrained(checkpoint).save_pretrained(tmp_path)
    tensors, saved = (safetensors.numpy.load_file(path / "model.safetensors") for path in (checkpoint, tmp_path))
    assert {f"model.{name}" for name in saved} == {name for name in tensors if name.startswith("model.encoder.")}
    assert all(np.array_equal(tensors[f"model.{name}"], saved[name]) for name in saved)
