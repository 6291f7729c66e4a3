"""WavLM against transformers' torch model with weights that numpy draws; what it shares with HuBERT is tested there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import WavLMConfig, WavLMModel

from mer_jax.features.pooling import mean_variance
from mer_jax.models.wavlm import WavLM, buckets
from tests.models.test_hubert import BASE, LARGE, SMALL, relative_error, torch_hidden_states, waveforms
from tests.oracle import load_torch

VARIANTS = {"base": BASE, "large": LARGE}
POSITIONS = {"num_buckets": 16, "max_bucket_distance": 40}  # 30 frames reach all of its buckets but the last

encode = jax.jit(WavLM.__call__, static_argnames="keep_layers")


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    @functools.cache
    def write(variant):
        config = WavLMConfig(**{**SMALL, **VARIANTS[variant], **POSITIONS})
        return oracle.checkpoint(tmp_path_factory.mktemp(variant), f"wavlm/{variant}", WavLMModel, config)

    return write


def torch_states(folder, x):
    return {"hidden_states": torch_hidden_states(load_torch(WavLMModel, folder), x, 3)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_match_transformers(variant, oracle, checkpoint):
    x = waveforms(2, 603)
    expected = oracle(f"wavlm/{variant}", lambda: torch_states(checkpoint(variant), x))["hidden_states"]
    out = encode(WavLM.from_pretrained(checkpoint(variant)), x, jnp.array([603, 603]), keep_layers=3)
    assert out.hidden_states.shape == expected.shape
    for ours, theirs in zip(out.hidden_states, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5


def torch_attention(folder, x):
    import torch

    attention = load_torch(WavLMModel, folder).encoder.layers[0].attention
    out, _, bias = attention(torch.tensor(x))
    return {"out": out, "bias": bias[: attention.num_heads]}


def test_attention_and_the_bias_of_distances_match_transformers(oracle, checkpoint):
    x = np.random.default_rng(0).standard_normal((2, 30, 32)).astype(np.float32)
    expected = oracle("wavlm/attention", lambda: torch_attention(checkpoint("large"), x))
    encoder = WavLM.from_pretrained(checkpoint("large")).encoder
    bias = encoder.bias(30)
    np.testing.assert_array_equal(bias[0], expected["bias"])
    first = jax.tree.map(lambda leaf: leaf[0], encoder.layers.attention)
    assert relative_error(first(jnp.asarray(x), jnp.array([30, 30]), bias), expected["out"]) < 1e-5


def torch_buckets(config, distances):
    import torch

    attention = WavLMModel(config).encoder.layers[0].attention
    return {"rows": attention._relative_positions_bucket(torch.tensor(distances))}


def test_every_distance_has_transformers_bucket(oracle):
    distances = np.arange(-1600, 1601)
    expected = oracle("wavlm/buckets", lambda: torch_buckets(WavLMConfig(**SMALL), distances))["rows"]
    np.testing.assert_array_equal(buckets(distances, 320, 800), expected)


LENGTHS = (90, 345, 900)


def torch_lone_clips(folder, batch):
    model = load_torch(WavLMModel, folder)
    return {str(n): torch_hidden_states(model, x[None, :n], 2)[:, 0] for x, n in zip(batch, LENGTHS, strict=True)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_clips_padded_into_a_batch_match_transformers_on_each_alone(variant, oracle, checkpoint):
    batch = waveforms(len(LENGTHS), 900)
    expected = oracle(f"wavlm/{variant}_lone_clips", lambda: torch_lone_clips(checkpoint(variant), batch))
    padded = np.where(np.arange(900) < np.array(LENGTHS)[:, None], batch, np.float32(np.nan))
    out = encode(WavLM.from_pretrained(checkpoint(variant)), padded, jnp.array(LENGTHS), keep_layers=2)
    for row, length in enumerate(LENGTHS):
        states = expected[str(length)]
        assert out.lengths[row] == states.shape[1]
        assert relative_error(out.hidden_states[:, row, : states.shape[1]], states) < 1e-5


def test_bfloat16_stays_close(checkpoint):
    x, lengths = waveforms(2, 1200), jnp.array([1200, 900])
    exact, rough = (WavLM.from_pretrained(checkpoint("large"), dtype) for dtype in (jnp.float32, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(rough))} == {jnp.dtype(jnp.bfloat16)}
    a, b = (
        np.asarray(mean_variance(out.hidden_states.sum(0, dtype=jnp.float32), out.lengths))
        for out in (encode(model, x, lengths, keep_layers=2) for model in (exact, rough))
    )
    assert (np.sum(a * b, axis=1) > 0.999 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


def test_saved_folder_reads_the_same_in_transformers(oracle, checkpoint, tmp_path):
    WavLM.from_pretrained(checkpoint("base")).save_pretrained(tmp_path)
    oracle("wavlm/base", lambda: torch_states(tmp_path, waveforms(2, 603)))
