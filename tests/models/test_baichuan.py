"""The decoder against transformers' torch models, and with ALiBi against the formulas in float64."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from mer_jax.features.pooling import mean_variance
from mer_jax.models.baichuan import Baichuan, alibi_slopes
from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.runtime.errors import DataError
from tests.oracle import load_torch, saved_shapes

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": None,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ROTARY = {
    "llama2": (LlamaForCausalLM, LlamaConfig(**SMALL, rms_norm_eps=1e-5)),
    "llama3": (LlamaForCausalLM, LlamaConfig(**SMALL, num_key_value_heads=2, rope_parameters=LLAMA_3_ROPE)),
    "llama_biases": (LlamaForCausalLM, LlamaConfig(**SMALL, head_dim=12, attention_bias=True, mlp_bias=True)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SMALL, num_key_value_heads=2)),
    "qwen2_tied": (Qwen2ForCausalLM, Qwen2Config(**SMALL, num_key_value_heads=1, tie_word_embeddings=True)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=10)),
}

encode = jax.jit(Baichuan.__call__, static_argnames="keep_layers")


def token_ids(batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, SMALL["vocab_size"], (batch, length), dtype=np.int32)


def read_tensors(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def relative_error(actual, expected):
    expected = np.asarray(expected, np.float64)
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


SEEN = slice(0, None, 6)  # positions that are compared


def torch_outputs(model, ids):
    """Hidden states of all layers and logits, at the positions `SEEN`."""
    import torch

    out = model(torch.tensor(ids), output_hidden_states=True)
    return {"hidden_states": torch.stack(out.hidden_states[-3:])[:, :, SEEN], "logits": out.logits[:, SEEN]}


def assert_same_outputs(model, ids, expected):
    out = encode(model, ids, jnp.full(len(ids), ids.shape[1]), keep_layers=3)
    assert out.lengths.tolist() == [ids.shape[1]] * len(ids)
    for ours, theirs in zip(out.hidden_states[:, :, SEEN], expected["hidden_states"], strict=True):
        assert relative_error(ours, theirs) < 1e-5
    assert relative_error(model.logits(out.hidden_states[-1, :, SEEN]), expected["logits"]) < 1e-5


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    """Writes a variant's checkpoint; its folder."""

    @functools.cache
    def write(variant):
        return oracle.checkpoint(tmp_path_factory.mktemp(variant), f"decoder/{variant}", *ROTARY[variant])

    return write


@pytest.fixture(scope="module")
def rotary(checkpoint):
    @functools.cache
    def load(variant, dtype=jnp.float32):
        return Baichuan.from_pretrained(checkpoint(variant), dtype=dtype, lm_head=True)

    return load


def write_baichuan(folder, **fields):
    """A checkpoint folder as on the hub: names, fused W_pack, `auto_map`; returns its tensors."""
    config = {**SMALL, "model_type": "baichuan", "hidden_act": "silu", "rms_norm_eps": 1e-6, **fields}
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    width, inner, rng = config["hidden_size"], config["intermediate_size"], np.random.default_rng(1)
    shapes = dict.fromkeys(["lm_head.weight", "model.embed_tokens.weight"], (50, width))
    shapes["model.norm.weight"] = (width,)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes[f"{layer}.self_attn.W_pack.weight"] = (3 * width, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_proj.weight"] = shapes[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    tensors = {
        name: (0.2 * rng.standard_normal(shape) + ("norm" in name)).astype(np.float32) for name, shape in shapes.items()
    }
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return tensors


def alibi_reference(tensors, ids, num_layers, num_heads, slopes):
    """Hidden states [layers, T, D] of a text in float64: softmax(q k / sqrt(H) + slope * key position) v."""

    def norm(x, name):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * weights[name]

    weights = {name.removeprefix("model."): tensor.astype(np.float64) for name, tensor in tensors.items()}
    x = weights["embed_tokens.weight"][ids]
    length, width = x.shape
    states = []
    for i in range(num_layers):
        layer = f"layers.{i}"
        packed = norm(x, f"{layer}.input_layernorm.weight") @ weights[f"{layer}.self_attn.W_pack.weight"].T
        heads = []
        for head in range(num_heads):
            size = width // num_heads
            q, k, v = (packed[:, j * width + head * size :][:, :size] for j in range(3))
            scores = q @ k.T / np.sqrt(size) + slopes[head] * np.arange(length)
            scores[np.triu_indices(length, 1)] = -np.inf
            exp = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(exp / exp.sum(axis=1, keepdims=True) @ v)
        x = x + np.concatenate(heads, axis=1) @ weights[f"{layer}.self_attn.o_proj.weight"].T
        y = norm(x, f"{layer}.post_attention_layernorm.weight")
        gate = y @ weights[f"{layer}.mlp.gate_proj.weight"].T
        up = y @ weights[f"{layer}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{layer}.mlp.down_proj.weight"].T
        states.append(x)
    states[-1] = norm(x, "norm.weight")
    return np.stack(states)


@pytest.mark.parametrize("variant", ROTARY)
def test_hidden_states_and_logits_match_transformers(variant, oracle, checkpoint, rotary):
    ids = token_ids(2, 90)  # beyond LLAMA_3_ROPE's original context
    model_class, _ = ROTARY[variant]
    expected = oracle(f"decoder/{variant}", lambda: torch_outputs(load_torch(model_class, checkpoint(variant)), ids))
    assert_same_outputs(rotary(variant), ids, expected)


def test_alibi_slopes():
    """Press et al.'s rule for a power of two, and their published values for other numbers of heads."""
    assert alibi_slopes(8) == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256])
    assert alibi_slopes(6) == pytest.approx([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8])
    slopes = alibi_slopes(40)
    assert len(slopes) == len(set(slopes)) == 40
    assert slopes[:32] == pytest.approx([2 ** (-(i + 1) / 4) for i in range(32)])
    assert slopes[32:] == pytest.approx([2 ** (-(i + 0.5) / 4) for i in range(8)])


@pytest.mark.parametrize(
    ("num_heads", "slopes"), [(4, [1 / 4, 1 / 16, 1 / 64, 1 / 256]), (5, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2])]
)
def test_alibi_matches_the_formula(num_heads, slopes, tmp_path):
    tensors = write_baichuan(tmp_path, num_attention_heads=num_heads, hidden_size=40, model_max_length=64)
    ids = token_ids(2, 30)
    out = encode(Baichuan.from_pretrained(tmp_path), ids, jnp.array([30, 30]), keep_layers=3)
    for row in range(2):
        expected = alibi_reference(tensors, ids[row], 3, num_heads, slopes)
        for ours, theirs in zip(out.hidden_states[:, row], expected, strict=True):
            assert relative_error(ours, theirs) < 1e-5


def write_llama(folder, tensors):
    """Baichuan's tensors as a LLaMA checkpoint; its folder."""
    unpacked = {}
    for name, tensor in tensors.items():
        if "W_pack" in name:
            for part, target in zip(np.split(tensor, 3), "qkv", strict=True):
                unpacked[name.replace("W_pack", f"{target}_proj")] = part
        else:
            unpacked[name] = tensor
    LlamaConfig(**SMALL).save_pretrained(folder)
    safetensors.numpy.save_file(unpacked, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_baichuan_7b_is_llama_with_packed_projections(oracle, tmp_path):
    tensors = write_baichuan(tmp_path / "baichuan", max_position_embeddings=64)
    llama = write_llama(tmp_path / "llama", tensors)
    ids = token_ids(2, 30)
    expected = oracle("decoder/baichuan_7b", lambda: torch_outputs(load_torch(LlamaForCausalLM, llama), ids))
    assert_same_outputs(Baichuan.from_pretrained(tmp_path / "baichuan", lm_head=True), ids, expected)


def test_baichuan_2_normalises_its_head(tmp_path):
    head = write_baichuan(tmp_path, z_loss_weight=0)["lm_head.weight"].astype(np.float64)
    hidden = np.random.default_rng(0).standard_normal((2, 32)).astype(np.float32)
    logits = Baichuan.from_pretrained(tmp_path, lm_head=True).logits(hidden)
    assert relative_error(logits, hidden @ (head / np.linalg.norm(head, axis=1, keepdims=True)).T) < 1e-6
    assert BaichuanConfig(vocab_size=125_696).norm_head
    assert not BaichuanConfig(vocab_size=64_000).norm_head


@pytest.fixture(scope="module")
def alibi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alibi")
    write_baichuan(folder)
    return Baichuan.from_pretrained(folder)


@pytest.mark.parametrize("variant", ["alibi", "qwen3"])
@settings(max_examples=15, deadline=None)
@given(length=st.sampled_from([1, 2, 9, 24]), seed=st.integers(0, 99))
def test_a_text_does_not_see_its_padding_or_its_batch(variant, alibi, rotary, length, seed):
    model = alibi if variant == "alibi" else rotary(variant)
    batch, other = token_ids(3, 24, seed), token_ids(3, 24, seed + 100)
    other[0, :length] = batch[0, :length]
    lengths = jnp.array([length, 24, 24])
    first, second = (encode(model, ids, lengths, keep_layers=2).hidden_states[:, 0] for ids in (batch, other))
    assert np.array_equal(first[:, :length], second[:, :length])
    alone = encode(model, batch[:1, :length], lengths[:1], keep_layers=2).hidden_states[:, 0]
    assert relative_error(alone, first[:, :length]) < 1e-5


@pytest.mark.parametrize("variant", ["alibi", "llama3"])
def test_bfloat16_stays_close(variant, rotary, tmp_path):
    if variant == "alibi":
        write_baichuan(tmp_path)
        load = functools.partial(Baichuan.from_pretrained, tmp_path)
    else:
        load = functools.partial(rotary, variant)
    exact, rough = load(dtype=jnp.float32), load(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(rough))} == {jnp.dtype(jnp.bfloat16)}
    ids, lengths = token_ids(2, 40), jnp.array([40, 40])
    a, b = (encode(model, ids, lengths, keep_layers=3).hidden_states for model in (exact, rough))
    assert b.dtype == jnp.bfloat16
    a, b = (np.asarray(mean_variance(x.sum(0, dtype=jnp.float32), lengths)) for x in (a, b))  # the clips' features
    assert (np.sum(a * b, axis=1) > 0.999 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


def test_baichuan_is_saved_as_it_was_read(tmp_path):
    tensors = write_baichuan(tmp_path / "hub", z_loss_weight=0)
    model = Baichuan.from_pretrained(tmp_path / "hub", lm_head=True)
    model.save_pretrained(tmp_path / "saved")
    saved = read_tensors(tmp_path / "saved")
    assert saved.keys() == tensors.keys()
    assert all(np.array_equal(saved[name], tensors[name]) for name in tensors)
    again = Baichuan.from_pretrained(tmp_path / "saved", lm_head=True)
    assert nnx.graphdef(again) == nnx.graphdef(model)


@pytest.mark.parametrize("variant", ["llama3", "qwen2_tied", "qwen3"])
def test_saved_folder_loads_in_transformers(variant, oracle, checkpoint, rotary, tmp_path):
    rotary(variant).save_pretrained(tmp_path)
    tensors, saved = (read_tensors(folder) for folder in (checkpoint(variant), tmp_path))
    assert saved.keys() == tensors.keys()
    assert all(np.array_equal(saved[name], tensors[name]) for name in tensors)
    model_class, _ = ROTARY[variant]
    oracle(f"decoder/{variant}", lambda: torch_outputs(load_torch(model_class, tmp_path), token_ids(2, 90)))


def test_a_bare_decoder_loads_too(oracle, checkpoint, rotary, tmp_path):
    _, config = ROTARY["qwen3"]
    names = oracle("decoder/bare.shapes", lambda: saved_shapes(Qwen3Model(config)))
    tensors = read_tensors(checkpoint("qwen3"))
    config.save_pretrained(tmp_path)
    safetensors.numpy.save_file({name: tensors[f"model.{name}"] for name in names}, tmp_path / "model.safetensors")
    model = Baichuan.from_pretrained(tmp_path)
    expected = rotary("qwen3").layers.attention.key.kernel
    assert np.array_equal(model.layers.attention.key.kernel, expected)
    with pytest.raises(ValueError, match="lm_head=True"):
        model.logits(jnp.zeros((1, 32)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LlamaConfig(**SMALL, rope_parameters=LINEAR_ROPE), "linear"),
        (Qwen2Config(**SMALL, use_sliding_window=True, max_window_layers=1), "sliding-window"),
        (LlamaConfig(**SMALL, hidden_act="tanh"), "tanh"),
        (LlamaConfig(**SMALL, partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
        (LlamaConfig(**SMALL, is_causal=False), "is_causal=false"),
        (BaichuanConfig(**SMALL, max_position_embeddings=8, rope_parameters={"rope_theta": 1e6}), "rope_theta 10000"),
    ],
)
def test_what_is_not_supported_is_said(config, message):
    with pytest.raises(DataError, match=message):
        Baichuan(config, rngs=nnx.Rngs(0))


def test_other_model_types_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="bert"):
        Baichuan.from_pretrained(tmp_path)


def test_a_tied_embedding_may_be_stored_as_the_head_alone(tmp_path):
    LlamaConfig(**SMALL, tie_word_embeddings=True).save_pretrained(tmp_path)
    model = Baichuan(LlamaConfig(**SMALL, tie_word_embeddings=True), rngs=nnx.Rngs(0))
    model.save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    renamed = {f"transformer.{name}".replace("transformer.lm_head", "lm_head"): t for name, t in tensors.items()}
    inside = {f"model.{name}".replace("model.model.", "model."): t for name, t in tensors.items()}  # the head as well
    for names in (tensors, renamed, inside):
        safetensors.numpy.save_file(names, tmp_path / "model.safetensors")
        np.testing.assert_array_equal(Baichuan.from_pretrained(tmp_path).embedding[...], model.embedding[...])


@pytest.mark.parametrize(
    "prefix", ["language_model.", "model.language_model.", "base_model.model.", "base_model.model.model."]
)
def test_a_language_model_within_another_is_read(tmp_path, prefix):
    config = LlamaConfig(**SMALL)
    config.save_pretrained(tmp_path)
    model = Baichuan(config, rngs=nnx.Rngs(0))
    model.save_pretrained(tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    safetensors.numpy.save_file({prefix + name: t for name, t in tensors.items()}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(Baichuan.from_pretrained(tmp_path).embedding[...], model.embedding[...])
