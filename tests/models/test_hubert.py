"""HuBERT and wav2vec 2.0 against transformers' torch models with weights that numpy draws."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

from mer_jax.features.pooling import mean_variance
from mer_jax.models.hubert import Hubert
from mer_jax.models.layers import ACTIVATIONS
from mer_jax.runtime.errors import DataError
from tests.oracle import load_torch

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16, 16, 24],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
BASE = {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
VARIANTS = {
    "base": BASE,
    "large": LARGE,
    "base_switched": {"feat_extract_norm": "group", "conv_bias": True, "do_stable_layer_norm": True},
    "large_switched": {
        "feat_extract_norm": "layer",
        "conv_bias": False,
        "do_stable_layer_norm": False,
        "feat_proj_layer_norm": False,
        "num_conv_pos_embeddings": 15,
    },
}

encode = jax.jit(Hubert.__call__, static_argnames="keep_layers")


def waveforms(batch, samples, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, samples)).astype(np.float32)


def relative_error(actual, expected):
    expected = np.asarray(expected, np.float64)
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


def torch_hidden_states(model, x, keep):
    """[keep, B, T, D] of the last layers.

    Since transformers 5 the last entry of `hidden_states` has not passed the final LayerNorm. In version 4,
    which made the baseline's features, it had: that is `last_hidden_state`.
    """
    import torch

    out = model(torch.tensor(x), output_hidden_states=True)
    return torch.stack([*out.hidden_states[-keep:-1], out.last_hidden_state])


def torch_states(folder, x):
    return {"hidden_states": torch_hidden_states(load_torch(HubertModel, folder), x, 3)}


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    """Writes a variant's checkpoint; its folder."""

    @functools.cache
    def write(variant):
        config = HubertConfig(**{**SMALL, **VARIANTS[variant]})
        return oracle.checkpoint(tmp_path_factory.mktemp(variant), f"hubert/{variant}", HubertModel, config)

    return write


@pytest.fixture(scope="module")
def load(checkpoint):
    @functools.cache
    def load(variant, dtype=jnp.float32):
        return Hubert.from_pretrained(checkpoint(variant), dtype=dtype)

    return load


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_match_transformers(variant, oracle, checkpoint, load):
    x = waveforms(2, 603)
    expected = oracle(f"hubert/{variant}", lambda: torch_states(checkpoint(variant), x))["hidden_states"]
    out = encode(load(variant), x, jnp.array([603, 603]), keep_layers=3)
    assert out.lengths.tolist() == [expected.shape[2]] * 2
    assert out.hidden_states.shape == expected.shape
    for ours, theirs in zip(out.hidden_states, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5


def torch_submodules(folder, x):
    import torch

    model = load_torch(HubertModel, folder)
    features = model.feature_extractor(torch.tensor(x)).transpose(1, 2)
    projected = model.feature_projection(features)
    return {"features": features, "projected": projected, "positions": model.encoder.pos_conv_embed(projected)}


@pytest.mark.parametrize("variant", ["base", "large"])
def test_submodules_match_transformers(variant, oracle, checkpoint, load):
    model, x = load(variant), waveforms(2, 603)
    expected = oracle(f"hubert/{variant}_submodules", lambda: torch_submodules(checkpoint(variant), x))
    features, projected, positions = (expected[name] for name in ("features", "projected", "positions"))

    @jax.jit
    def ours(model, x, lengths, features, projected):
        encoded, frames = model.feature_encoder(x, lengths)
        return frames, encoded, model.feature_projection(features), model.encoder.positions(projected)

    frames, *outputs = ours(model, x, jnp.array([603, 603]), features, projected)
    assert frames.tolist() == [features.shape[1]] * 2
    for output, expected in zip(outputs, (features, projected, positions), strict=True):
        assert relative_error(output, expected) < 1e-5


def torch_frame_count(folder, lengths):
    import torch

    return {"frames": load_torch(HubertModel, folder)._get_feat_extract_output_lengths(torch.tensor(lengths))}


def test_frame_count_is_transformers(oracle, checkpoint, load):
    lengths = np.arange(70, 2000, 7)
    expected = oracle("hubert/frame_count", lambda: torch_frame_count(checkpoint("large"), lengths))
    ours = load("large").feature_encoder.frame_count(jnp.asarray(lengths))
    assert np.array_equal(ours, expected["frames"])


LENGTHS = (70, 89, 90, 345, 900)  # frames begin every 20 samples and end after 30


def torch_lone_clips(folder, batch):
    model = load_torch(HubertModel, folder)
    return {str(n): torch_hidden_states(model, x[None, :n], 2)[:, 0] for x, n in zip(batch, LENGTHS, strict=True)}


@pytest.mark.parametrize("variant", ["base", "large"])
@pytest.mark.parametrize("padding", [0.0, 1e3, np.nan])
def test_clips_padded_into_a_batch_match_transformers_on_each_alone(variant, padding, oracle, checkpoint, load):
    batch = waveforms(len(LENGTHS), 900)
    expected = oracle(f"hubert/{variant}_lone_clips", lambda: torch_lone_clips(checkpoint(variant), batch))
    padded = np.where(np.arange(900) < np.array(LENGTHS)[:, None], batch, np.float32(padding))
    out = encode(load(variant), padded, jnp.array(LENGTHS), keep_layers=2)
    assert np.isfinite(out.hidden_states).all()
    for row, length in enumerate(LENGTHS):
        states = expected[str(length)]  # [keep, T, D]
        assert out.lengths[row] == states.shape[1]
        assert relative_error(out.hidden_states[:, row, : states.shape[1]], states) < 1e-5


@pytest.mark.parametrize("variant", ["base", "large"])
@settings(max_examples=15, deadline=None)
@given(
    length=st.integers(70, 900), others=st.lists(st.integers(70, 900), min_size=4, max_size=4), seed=st.integers(0, 99)
)
def test_a_clip_does_not_see_its_padding_or_its_batch(variant, load, length, others, seed):
    batch, other = waveforms(3, 900, seed), waveforms(3, 900, seed + 100)
    other[0, :length] = batch[0, :length]
    first, second = (
        encode(load(variant), x, jnp.array([length, *lengths]), keep_layers=2)
        for x, lengths in ((batch, others[:2]), (other, others[2:]))
    )
    frames = int(first.lengths[0])
    assert np.array_equal(first.hidden_states[:, 0, :frames], second.hidden_states[:, 0, :frames])


def test_a_clip_shorter_than_one_frame_has_no_frames(load):
    out = encode(load("base"), waveforms(2, 400), jnp.array([400, 12]), keep_layers=1)
    assert out.lengths[1] == 0
    assert np.isfinite(out.hidden_states).all()


def test_bfloat16_stays_close(load):
    x, lengths = waveforms(2, 1200), jnp.array([1200, 900])
    exact, frames = encode(load("large"), x, lengths, keep_layers=2)
    model = load("large", jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.bfloat16)}
    rough = encode(model, x, lengths, keep_layers=2).hidden_states
    assert rough.dtype == jnp.bfloat16
    a, b = (np.asarray(mean_variance(x.sum(0, dtype=jnp.float32), frames)) for x in (exact, rough))  # clips' features
    assert (np.sum(a * b, axis=1) > 0.999 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


@pytest.mark.parametrize("variant", ["large", "large_switched"])
@pytest.mark.parametrize("sound", ["noise", "hum", "hum beside a constant", "silence"])
def test_the_first_norm_in_bfloat16_is_as_exact_as_that_of_what_the_convolution_gives(variant, sound, load):
    """Its variance comes from the samples; what the filters leave of a low tone is small beside what cancels."""
    time = np.arange(1200, dtype=np.float32) / 16000
    hum = np.sin(2 * np.pi * 100 * time) + 3 * (sound == "hum beside a constant")
    x = jnp.asarray({"noise": waveforms(1, 1200)[0], "silence": 0 * time}.get(sound, hum)[None], jnp.bfloat16)
    exact, rough = (load(variant, dtype).feature_encoder.layers[0] for dtype in (jnp.float32, jnp.bfloat16))
    wide = x[..., None].astype(jnp.float32)
    expected = exact.layer_norm(exact.conv(wide))
    ours = rough.normalised(x[..., None], rough.layer_norm)
    usual = rough.layer_norm(rough.conv(x[..., None]))
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rough(x[..., None], jnp.array([1200]))[0], ACTIVATIONS["gelu"](ours))
    error, known = (np.sqrt(np.square(np.asarray(y, np.float32) - expected).mean()) for y in (ours, usual))
    assert error <= 1.25 * known + 1e-6


def test_pretraining_can_replace_frames_between_projection_and_encoder(load):
    model, x, lengths = load("large"), waveforms(2, 800), jnp.array([800, 600])

    @jax.jit
    def masked(model, x, lengths, replace):
        features, frames = model.feature_encoder(x, lengths)
        projected = model.feature_projection(features)
        return model.encoder(jnp.where(replace[..., None], 0.5, projected), frames, 3)

    whole = encode(model, x, lengths, keep_layers=3).hidden_states
    replace = np.zeros(whole.shape[1:3], bool)
    assert relative_error(masked(model, x, lengths, replace), whole) < 1e-6
    replace[0, 3] = True
    hidden = masked(model, x, lengths, replace)
    assert relative_error(hidden[:, 0], whole[:, 0]) > 1e-3
    assert relative_error(hidden[:, 1], whole[:, 1]) < 1e-6


def test_saved_folder_reads_the_same_in_transformers_and_here(oracle, load, tmp_path):
    for variant in ("base", "large"):
        load(variant).save_pretrained(tmp_path / variant)
        oracle(f"hubert/{variant}", lambda variant=variant: torch_states(tmp_path / variant, waveforms(2, 603)))
        again = Hubert.from_pretrained(tmp_path / variant)
        assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(again), nnx.state(load(variant))))


def test_both_names_of_weight_normalised_tensors_load(checkpoint, load, tmp_path):
    shutil.copytree(checkpoint("large"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    conv = "encoder.pos_conv_embed.conv"
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    assert any(name in key for key in tensors for pair in names.items() for name in pair)
    for style in (dict.keys, dict.values):
        renamed = {"final_proj.weight": np.ones((2, 2), np.float32), "label_embs_concat": np.ones((2, 2), np.float32)}
        for key, tensor in tensors.items():  # beside heads of the pretraining
            for pair, name in zip(names.items(), style(names), strict=True):
                if key in [f"{conv}.{alternative}" for alternative in pair]:
                    key = f"{conv}.{name}"
            renamed[key] = tensor
        safetensors.numpy.save_file(renamed, file)
        model = Hubert.from_pretrained(tmp_path)
        assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(model), nnx.state(load("large"))))


@pytest.mark.parametrize("model_class", [Wav2Vec2Model, Wav2Vec2ForCTC])
def test_wav2vec2_loads_through_the_same_class(model_class, oracle, tmp_path):
    name = f"hubert/{model_class.__name__.lower()}"
    oracle.checkpoint(tmp_path, name, model_class, Wav2Vec2Config(**SMALL, **LARGE))
    x = waveforms(1, 603)

    def torch_states():
        model = load_torch(model_class, tmp_path)
        return {"hidden_states": torch_hidden_states(getattr(model, "wav2vec2", model), x, 2)}

    out = encode(Hubert.from_pretrained(tmp_path), x, jnp.array([603]), keep_layers=2)
    assert relative_error(out.hidden_states, oracle(name, torch_states)["hidden_states"]) < 1e-5


def test_batch_normalised_positions_are_refused(tmp_path):
    HubertConfig(**SMALL, conv_pos_batch_norm=True).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="conv_pos_batch_norm"):
        Hubert.from_pretrained(tmp_path)


def test_keeping_fewer_layers_changes_none(load):
    x, lengths = waveforms(1, 800), jnp.array([800])
    whole, last = (encode(load("large"), x, lengths, keep_layers=keep).hidden_states for keep in (3, 1))
    assert relative_error(last, whole[-1:]) < 1e-6


@pytest.mark.parametrize("keep_layers", [0, 4])
def test_keep_layers_out_of_range_is_an_error(keep_layers, load):
    with pytest.raises(ValueError, match="3 layers"):
        encode(load("large"), waveforms(1, 800), jnp.array([800]), keep_layers=keep_layers)


def test_random_weights_depend_on_the_seed_alone():
    config = HubertConfig(**SMALL, **LARGE)
    make = jax.jit(lambda seed: nnx.state(Hubert(config, rngs=nnx.Rngs(jax.random.key(seed)))))
    first, same, other = make(0), make(0), make(1)
    assert jax.tree.all(jax.tree.map(np.array_equal, first, same))
    assert not jax.tree.all(jax.tree.map(np.array_equal, first, other))
