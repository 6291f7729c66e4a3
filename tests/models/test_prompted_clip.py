"""The block loop with prompts against whole sequences, and what goes into it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.clip import CLIP, num_layers
from mer_jax.models.layers import layer_at
from mer_jax.models.prompted_clip import encode_image, image_prompts, run_layers, text_positions, text_prompts
from tests.models.test_clip import assert_close, images, write_clip


@pytest.fixture(scope="module")
def clip(oracle, tmp_path_factory):
    return CLIP.from_pretrained(write_clip(oracle, tmp_path_factory.mktemp("clip")), dtype=jnp.float32)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def cut(layers, count):
    return jax.tree.map(lambda leaf: leaf[:count], layers)


def identity(layers):
    """Layers that pass their input on: what stands at a position is then what was put there."""
    layers = jax.tree.map(lambda x: x, layers)
    for linear in (layers.attention.out, layers.mlp.fc_2):
        linear.kernel[...] = jnp.zeros_like(linear.kernel[...])
        linear.bias[...] = jnp.zeros_like(linear.bias[...])
    return layers


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_each_layer_sees_its_own_prompts_after_the_tokens(clip, depth):
    layers = identity(clip.vision.layers)
    x, prompts = normal(2, 6, 48), normal(depth, 3, 48)
    for count in range(1, 5):
        y = run_layers(cut(layers, count), x, prompts[:count])
        np.testing.assert_array_equal(y[:, :6], x)
        np.testing.assert_array_equal(y[:, 6:], np.broadcast_to(prompts[min(count, depth) - 1], (2, 3, 48)))


def whole_sequences(layers, x, prompts, start, mask):
    """What the last layer sees if every layer computes every token; a layer's prompts take the place of the last's."""
    depth, count, _ = prompts.shape
    for index in range(num_layers(layers)):
        if index < depth:
            x = x.at[:, start : start + count].set(prompts[index])
        seen = x
        x = layer_at(layers, index)(x, mask=mask)
    return seen


@pytest.mark.parametrize(("tower", "start"), [("vision", 6), ("text", 1)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_layer_sees_what_whole_sequences_would_show_it(clip, tower, start, depth):
    layers = getattr(clip, tower).layers
    width = layers.ln_1.scale.shape[1]
    x, prompts = normal(2, 9, width), normal(depth, 3, width)
    tokens = np.delete(np.arange(9), range(start, start + 3))
    order = np.concatenate([tokens, range(start, start + 3)])  # the prompts are listed last
    causal = np.tril(np.ones((9, 9), bool)) if tower == "text" else None
    mask = None if causal is None else causal[np.ix_(order, order)]
    for count in range(1, num_layers(layers) + 1):
        expected = jax.jit(whole_sequences, static_argnums=3)(cut(layers, count), x, prompts[:count], start, causal)
        actual = jax.jit(run_layers)(cut(layers, count), x[:, tokens], prompts[:count], mask)
        assert_close(actual, expected[:, order], 1e-5)


def test_prompts_that_are_replaced_cost_no_queries(clip):
    vision = jax.tree.map(lambda leaf: leaf, clip.vision)
    vision.layers = cut(vision.layers, 2)  # so that no loop, whose FLOPs count once, has more than one layer
    pixels, prompts = images(batch=3), jnp.zeros((2, 4, 48))

    def flops(encode, *prompts):
        return jax.jit(encode).lower(vision, pixels, *prompts).cost_analysis()["flops"]

    plain = flops(lambda vision, pixels: vision(pixels))
    replaced = flops(encode_image, prompts)  # all of them, or only seen by the last layer's class token
    assert plain < replaced < 1.1 * plain
    assert flops(encode_image, prompts[:1]) > 1.15 * plain  # these flow through the layers: 4 tokens beside 17


def test_where_the_prompts_stand_and_which_get_positions(clip):
    prompts = normal(3, 4, 48)
    seen = image_prompts(clip.vision, prompts)
    assert_close(seen[0], clip.vision.ln_pre(prompts[0]), 1e-6)
    np.testing.assert_array_equal(seen[1:], prompts[1:])

    np.testing.assert_array_equal(text_positions(clip.text, 4, 4), [0, 5, 6, 7, 1, 2, 3, 4])
    prompts = normal(3, 4, 32)
    seen = text_prompts(clip.text, prompts)
    np.testing.assert_array_equal(seen[0], prompts[0] + clip.text.position_embedding[1:5])
    np.testing.assert_array_equal(seen[1:], prompts[1:])
