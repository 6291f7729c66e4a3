"""DINOv2 against transformers' torch models with weights that numpy draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import Dinov2Config, Dinov2Model

from mer_jax.models.dinov2 import Dinov2, bicubic
from mer_jax.runtime.errors import DataError
from tests.models.test_hubert import relative_error
from tests.oracle import load_torch

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 74, "patch_size": 7}
VARIANTS = {"base": SMALL, "giant": SMALL | {"use_swiglu_ffn": True}}  # 10 x 10 positions

encode = jax.jit(Dinov2.encode_image)


def images(side, batch=2):
    return np.random.default_rng(0).standard_normal((batch, side, side, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    @functools.cache
    def write(variant):
        config = Dinov2Config(**VARIANTS[variant])
        return oracle.checkpoint(tmp_path_factory.mktemp(variant), f"dinov2/{variant}", Dinov2Model, config)

    return write


def torch_images(folder, pixels):
    import torch

    model = load_torch(Dinov2Model, folder)
    out = model(torch.tensor(pixels.transpose(0, 3, 1, 2)), output_hidden_states=True)
    return {"embedded": out.hidden_states[0], "layer": out.hidden_states[1], "pooled": out.last_hidden_state[:, 0]}


@pytest.mark.parametrize(("variant", "side"), [("base", 74), ("base", 30), ("giant", 30)])
def test_each_part_matches_transformers(variant, side, oracle, checkpoint):
    """Positions as they are, and interpolated to 4 x 4 patches."""
    pixels = images(side)
    expected = oracle(f"dinov2/{variant}_{side}", lambda: torch_images(checkpoint(variant), pixels))
    model = Dinov2.from_pretrained(checkpoint(variant), jnp.float32)
    assert relative_error(model.embed(jnp.asarray(pixels)), expected["embedded"]) < 1e-5
    first = jax.tree.map(lambda leaf: leaf[0], model.layers)
    assert relative_error(first(jnp.asarray(expected["embedded"])), expected["layer"]) < 1e-5
    assert relative_error(encode(model, pixels), expected["pooled"]) < 1e-5


def torch_bicubic():
    import torch

    return {"weights": torch.nn.functional.interpolate(torch.eye(37)[None, :, :, None], size=(16, 1), mode="bicubic")}


def test_positions_are_interpolated_as_torch_does(oracle):
    expected = oracle("dinov2/bicubic", torch_bicubic)["weights"][0, :, :, 0].T  # of each basis vector along one axis
    np.testing.assert_allclose(bicubic(37, 16), expected, atol=1e-6)


def test_bfloat16_is_the_default_and_close(checkpoint):
    exact, rough = (
        np.asarray(encode(Dinov2.from_pretrained(checkpoint("base"), dtype), images(30)), np.float32)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.999).all()


def test_an_image_does_not_see_its_batch(checkpoint):
    model, pixels = Dinov2.from_pretrained(checkpoint("base"), jnp.float32), images(30, 3)
    other = pixels.copy()
    other[1:] = 0
    np.testing.assert_array_equal(encode(model, pixels)[0], encode(model, other)[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_saved_is_what_was_read(variant, checkpoint, tmp_path):
    Dinov2.from_pretrained(checkpoint(variant), jnp.float32).save_pretrained(tmp_path)
    tensors, saved = (
        safetensors.numpy.load_file(path / "model.safetensors") for path in (checkpoint(variant), tmp_path)
    )
    assert tensors.keys() - saved.keys() == {"embeddings.mask_token"}
    assert all(np.array_equal(tensors[name], saved[name]) for name in saved)


def test_what_is_not_ported_is_refused():
    with pytest.raises(DataError, match="qkv_bias=False; supported is True"):
        jax.eval_shape(lambda: Dinov2(Dinov2Config(**SMALL, qkv_bias=False), rngs=nnx.Rngs(0)))
