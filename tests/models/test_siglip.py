"""SigLIP's image tower against transformers' torch models with weights that numpy draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import SiglipConfig, SiglipModel

from mer_jax.models.siglip import Siglip
from mer_jax.runtime.errors import DataError
from tests.models.test_hubert import relative_error
from tests.oracle import load_torch

TOWER = {"hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4}
VISION = TOWER | {"image_size": 30, "patch_size": 7}  # two pixels are left over, as of 384 px in patches of 14
TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
PIXELS = np.random.default_rng(0).standard_normal((3, 30, 30, 3)).astype(np.float32)

encode = jax.jit(Siglip.encode_image)


@pytest.fixture(scope="module")
def checkpoint(oracle, tmp_path_factory):
    config = SiglipConfig(vision_config=VISION, text_config=TEXT)
    return oracle.checkpoint(tmp_path_factory.mktemp("siglip"), "siglip/small", SiglipModel, config)


def torch_images(folder):
    import torch

    tower = load_torch(SiglipModel, folder).vision_model
    out = tower(torch.tensor(PIXELS.transpose(0, 3, 1, 2)), output_hidden_states=True)
    last = out.last_hidden_state
    states = {"embedded": out.hidden_states[0], "layer": out.hidden_states[1], "last": last}
    return states | {"pooled": tower.head(last)}


def test_each_part_matches_transformers(oracle, checkpoint):
    expected = oracle("siglip/small", lambda: torch_images(checkpoint))
    model = Siglip.from_pretrained(checkpoint, jnp.float32)
    assert relative_error(model.embed(jnp.asarray(PIXELS)), expected["embedded"]) < 1e-5
    first = jax.tree.map(lambda leaf: leaf[0], model.layers)
    assert relative_error(first(jnp.asarray(expected["embedded"])), expected["layer"]) < 1e-5
    assert relative_error(model.head(jnp.asarray(expected["last"])), expected["pooled"]) < 1e-5
    assert relative_error(encode(model, PIXELS), expected["pooled"]) < 1e-5


def test_bfloat16_is_the_default_and_close(checkpoint):
    exact, rough = (
        np.asarray(encode(Siglip.from_pretrained(checkpoint, dtype), PIXELS), np.float32)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    cosine = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert (cosine > 0.999).all()


def test_an_image_does_not_see_its_batch(checkpoint):
    model, other = Siglip.from_pretrained(checkpoint, jnp.float32), PIXELS.copy()
    other[1:] = 0
    np.testing.assert_array_equal(encode(model, PIXELS)[0], encode(model, other)[0])


def test_what_is_saved_is_the_image_tower_as_it_was_read(checkpoint, tmp_path):
    Siglip.from_pretrained(checkpoint, jnp.float32).save_pretrained(tmp_path)
    tensors, saved = (safetensors.numpy.load_file(path / "model.safetensors") for path in (checkpoint, tmp_path))
    assert saved.keys() == {name for name in tensors if name.startswith("vision_model.")}
    assert all(np.array_equal(tensors[name], saved[name]) for name in saved)


def test_what_is_not_ported_is_refused(checkpoint):
    config = SiglipConfig(vision_config=VISION | {"vision_use_head": False}, text_config=TEXT)
    with pytest.raises(DataError, match="vision_use_head=False; supported is True"):
        jax.eval_shape(lambda: Siglip(config, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="expected"):
        Siglip.from_pretrained(checkpoint).embed(jnp.zeros((1, 32, 32, 3)))
