import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import CLIPConfig, CLIPModel

from mer_jax.models.clip import CLIP
from mer_jax.runtime.errors import DataError
from tests.oracle import load_torch

EOS, VOCABULARY = 49, 50

encode_image, encode_text = jax.jit(CLIP.encode_image), jax.jit(CLIP.encode_text)


def small_config(**switches):
    """Different sizes everywhere, so that no two axes can be mixed up."""
    text = {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 4}
    text |= {"vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": EOS}
    vision = {"hidden_size": 48, "intermediate_size": 88, "num_hidden_layers": 4, "num_attention_heads": 3}
    vision |= {"image_size": 32, "patch_size": 8}
    text |= switches.get("text", {})
    vision |= switches.get("vision", {})
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)


def write_clip(oracle, folder, **switches):
    """Checkpoint of a small CLIP; its folder."""
    return oracle.checkpoint(folder, "clip/small", CLIPModel, small_config(**switches))


def images(batch=2, size=32):
    return np.random.default_rng(0).normal(size=(batch, size, size, 3)).astype(np.float32)


def tokens(batch=3, length=9):
    """Random ids below EOS; EOS in the middle and, as padding, at the end."""
    ids = np.random.default_rng(0).integers(3, EOS, (batch, length))
    ids[:, -1] = EOS
    ids[np.arange(batch), length - 2 - np.arange(batch)] = EOS
    return ids


def torch_features(model, pixels, token_ids):
    import torch

    images = model.get_image_features(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
    return {"images": images, "texts": model.get_text_features(torch.tensor(token_ids)).pooler_output}


def assert_close(actual, expected, tolerance):
    """Relative to the scale of the output."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.fixture(scope="module")
def pair(oracle, tmp_path_factory):
    """A checkpoint's folder, and ours from it."""
    folder = write_clip(oracle, tmp_path_factory.mktemp("clip"))
    return folder, CLIP.from_pretrained(folder, dtype=jnp.float32)


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_both_towers_match(oracle, tmp_path, hidden_act):
    switches = {"hidden_act": hidden_act, "layer_norm_eps": 1e-3}
    write_clip(oracle, tmp_path, text=switches, vision=switches)
    clip = CLIP.from_pretrained(tmp_path, dtype=jnp.float32)
    batch = images(), tokens()
    expected = oracle(f"clip/{hidden_act}", lambda: torch_features(load_torch(CLIPModel, tmp_path), *batch))
    assert_close(encode_image(clip, batch[0]), expected["images"], 1e-4)
    assert_close(encode_text(clip, batch[1]), expected["texts"], 1e-4)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(clip.logit_scale[...], tensors["logit_scale"])


def torch_layers(tower, x, causal):
    """Output of each of a tower's layers on the same input."""
    import torch

    mask = None if causal is None else torch.where(torch.tensor(causal), 0.0, -torch.inf)
    return {str(i): layer(torch.tensor(x), mask) for i, layer in enumerate(tower.encoder.layers)}


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_every_layer_matches(oracle, pair, tower):
    folder, clip = pair
    layers = getattr(clip, tower).layers
    length, width = (17, 48) if tower == "vision" else (9, 32)
    x = np.random.default_rng(0).normal(size=(2, length, width)).astype(np.float32)
    causal = np.tril(np.ones((1, 1, length, length), bool)) if tower == "text" else None
    expected = oracle(
        f"clip/{tower}_layers",
        lambda: torch_layers(getattr(load_torch(CLIPModel, folder), f"{tower}_model"), x, causal),
    )
    run = jax.jit(lambda layer, x, mask: layer(x, mask=mask))
    assert len(expected) == len(layers.ln_1.scale)
    for index in range(len(expected)):
        layer = jax.tree.map(lambda leaf, index=index: leaf[index], layers)
        assert_close(run(layer, x, causal), expected[str(index)], 1e-5)


def torch_embeddings(model, pixels, token_ids):
    import torch

    patches = model.vision_model.embeddings(torch.tensor(pixels.transpose(0, 3, 1, 2)))
    return {
        "vision": model.vision_model.pre_layrnorm(patches),
        "text": model.text_model.embeddings(torch.tensor(token_ids)),
    }


def test_embeddings_match(oracle, pair):
    folder, clip = pair
    batch = images(), tokens()
    expected = oracle("clip/embeddings", lambda: torch_embeddings(load_torch(CLIPModel, folder), *batch))
    assert_close(clip.vision.embed(jnp.asarray(batch[0])), expected["vision"], 1e-5)
    assert_close(clip.text.embed(jnp.asarray(batch[1]), jnp.arange(9)), expected["text"], 1e-5)


def assert_same_texts(oracle, name, folder, eos_token_id, token_ids):
    write_clip(oracle, folder, text={"eos_token_id": eos_token_id})
    expected = oracle(name, lambda: torch_features(load_torch(CLIPModel, folder), images(), token_ids))
    assert_close(encode_text(CLIP.from_pretrained(folder, dtype=jnp.float32), token_ids), expected["texts"], 1e-4)


def test_legacy_end_token_is_the_highest_id(oracle, tmp_path):
    token_ids = tokens()
    token_ids[:, 1] = 2
    assert_same_texts(oracle, "clip/legacy_end_token", tmp_path, 2, token_ids)


def test_new_end_token_need_not_be_the_highest_id(oracle, tmp_path):
    token_ids = tokens()
    token_ids[token_ids == 20] = 21
    token_ids[:, [4, 6]] = 20
    assert_same_texts(oracle, "clip/new_end_token", tmp_path, 20, token_ids)


def test_text_does_not_depend_on_what_follows_its_end(pair):
    _, clip = pair
    ids = np.array([[48, 5, 6, EOS, 7, 8, EOS], [48, 5, 6, EOS, EOS, EOS, EOS]])
    features = encode_text(clip, ids)
    assert_close(features[0], features[1], 1e-6)
    assert_close(encode_text(clip, ids[:, :4])[0], features[0], 1e-6)


def torch_size(config):
    import torch

    with torch.device("meta"):
        return {"parameters": [sum(parameter.numel() for parameter in CLIPModel(config).parameters())]}


def test_the_published_shapes_have_transformers_tensors(oracle):
    for patch, size, width, layers, text_width, projection in (
        (32, 224, 768, 12, 512, 512),
        (14, 336, 1024, 24, 768, 768),
    ):
        vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
        vision |= {"num_attention_heads": width // 64, "patch_size": patch, "image_size": size}
        text = {"hidden_size": text_width, "intermediate_size": 4 * text_width}
        text |= {"num_attention_heads": text_width // 64}
        config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=projection)
        expected = oracle(f"clip/vit_{patch}", lambda config=config: torch_size(config))
        clip = jax.eval_shape(lambda config=config: CLIP(config, rngs=nnx.Rngs(0)))
        assert [sum(leaf.size for leaf in jax.tree.leaves(clip))] == expected["parameters"]


def test_transformers_loads_what_we_save(oracle, pair, tmp_path):
    folder, clip = pair
    clip.save_pretrained(tmp_path)
    tensors, saved = (safetensors.numpy.load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert saved.keys() == tensors.keys()
    assert all(np.array_equal(saved[name], tensors[name]) for name in tensors)
    expected = oracle("clip/small", lambda: torch_features(load_torch(CLIPModel, tmp_path), images(), tokens()))
    assert_close(encode_image(clip, images()), expected["images"], 1e-4)
    assert_close(encode_text(clip, tokens()), expected["texts"], 1e-4)


def test_bfloat16_is_the_default_and_close(oracle, pair):
    clip = CLIP.from_pretrained(pair[0])
    expected = oracle("clip/small", lambda: torch_features(load_torch(CLIPModel, pair[0]), images(), tokens()))
    for ours, exact in (
        (encode_image(clip, images()), expected["images"]),
        (encode_text(clip, tokens()), expected["texts"]),
    ):
        assert ours.dtype == jnp.bfloat16
        ours = np.asarray(ours, np.float32)
        cosine = (ours * exact).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(exact, axis=1)
        assert (cosine > 0.999).all()
    assert clip.logit_scale.dtype == jnp.float32
    assert clip.vision.layers.mlp.fc_1.kernel.dtype == jnp.bfloat16


def test_norm_statistics_are_float32_in_bfloat16(pair):
    clip = CLIP.from_pretrained(pair[0])
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 48)) + 100, jnp.bfloat16)
    norm = clip.vision.ln_pre
    exact = x.astype(jnp.float32)
    exact = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    exact = exact * norm.scale[...] + norm.bias[...]
    assert_close(norm(x).astype(jnp.float32), exact.astype(jnp.float32), 2**-8)


def test_wrong_sizes_are_named(pair):
    _, clip = pair
    with pytest.raises(ValueError, match=r"expected \[B, 32, 32, 3\]"):
        clip.encode_image(images(size=40))
    with pytest.raises(ValueError, match="17 tokens, but the model has 16 positions"):
        clip.encode_text(tokens(length=17))
    with pytest.raises(DataError, match="hidden_act='relu6'"):
        jax.eval_shape(lambda: CLIP(small_config(text={"hidden_act": "relu6"}), rngs=nnx.Rngs(0)))


def test_one_trace_serves_all_models_of_one_config(pair):
    _, clip = pair
    traces = []

    @jax.jit
    def encode(clip, token_ids):
        traces.append(token_ids)
        return clip.encode_text(token_ids)

    other = jax.tree.map(lambda x: 0.9 * x, clip)
    assert not np.allclose(encode(clip, tokens()), encode(other, tokens()))
    assert len(traces) == 1


def test_embeddings_do_without_a_temperature(oracle, tmp_path):
    """Checkpoints that were pruned to their features lack it."""
    write_clip(oracle, tmp_path)
    whole, weights = CLIP.from_pretrained(tmp_path, jnp.float32), tmp_path / "model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    del tensors["logit_scale"]
    safetensors.numpy.save_file(tensors, weights)
    clip = CLIP.from_pretrained(tmp_path)
    assert np.isnan(clip.logit_scale[...]) and clip.logit_scale.dtype == jnp.float32
    clip = CLIP.from_pretrained(tmp_path, jnp.float32)
    np.testing.assert_array_equal(clip.encode_image(images()), whole.encode_image(images()))
