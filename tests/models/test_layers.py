from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.clip import CLIP_ACTIVATIONS
from mer_jax.models.layers import ACTIVATIONS, LayerNorm, known_activation, materialise, scan_layers
from mer_jax.runtime.errors import DataError


def torch_activations(x):
    import torch
    from transformers.activations import ACT2FN

    return {name: ACT2FN[name](torch.tensor(x)) for name in ACTIVATIONS}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_equals_transformers(name, oracle):
    x = np.linspace(-12, 12, 961, dtype=np.float32)
    expected = oracle("activations", lambda: torch_activations(x))
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), expected[name], atol=1e-6)


@pytest.mark.parametrize("name", sorted(CLIP_ACTIVATIONS))
def test_bfloat16_is_rounded_but_once(name):
    """All numbers from 2^-10 to 16; gelu's own error is as small as that of rounding."""
    x = jnp.arange(0x3A80, 0x4180, dtype=jnp.uint16).view(jnp.bfloat16)
    x = jnp.concatenate([-x[::-1], x])
    y, exact = (np.asarray(CLIP_ACTIVATIONS[name](each), np.float64) for each in (x, x.astype(jnp.float32)))
    assert CLIP_ACTIVATIONS[name](x).dtype == jnp.bfloat16
    error = np.abs(y - exact)
    assert (error <= (2**-8 + 1.2e-3 * (name == "gelu")) * np.abs(exact) + 4e-6).all()


def test_materialise_is_the_identity_with_its_gradient():
    y, gradient = jax.value_and_grad(lambda x: materialise(3 * x))(jnp.float32(5))
    assert (y, gradient) == (15, 3)


def test_unknown_activation_names_the_known_ones():
    with pytest.raises(DataError, match=r"mish.*gelu"):
        known_activation("mish")


def reference(x, norm):
    """In float64."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + norm.epsilon)
    return normal * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])


@pytest.mark.parametrize("offset", [0.0, 1.0, 300.0])
def test_float32_survives_a_large_mean(offset):
    rng = np.random.default_rng(0)
    norm = LayerNorm(256, 1e-5)
    norm.scale[...], norm.bias[...] = jnp.asarray(rng.normal(size=(2, 256)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(4, 7, 256)) + offset, jnp.float32)
    np.testing.assert_allclose(norm(x), reference(x, norm), atol=1e-5 + offset * 2**-21)  # the mean is rounded too


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0])
def test_bfloat16_loses_no_more_than_its_rounding(offset, platform, monkeypatch):
    monkeypatch.setattr("mer_jax.models.layers.device_of", lambda x: SimpleNamespace(platform=platform))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7, 256)) + offset, jnp.bfloat16)
    norm = LayerNorm(256, 1e-5)
    out = norm(x)
    assert out.dtype == jnp.bfloat16
    expected = reference(x, norm)
    np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=2**-8 * np.abs(expected).max())


@pytest.mark.parametrize(("platform", "passes"), [("gpu", 2), ("tpu", 1), ("cpu", 1)])
def test_the_sums_that_a_gpu_makes_one_kernel_of(platform, passes, monkeypatch):
    monkeypatch.setattr("mer_jax.models.layers.device_of", lambda x: SimpleNamespace(platform=platform))
    program = str(jax.make_jaxpr(LayerNorm(8, 1e-5))(jnp.zeros((2, 8), jnp.bfloat16)))
    assert (" max " in program) == (passes == 1)  # the difference of two sums of one pass may fall below 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_constant_row_gives_the_bias(dtype):
    norm = LayerNorm(8, 1e-5)
    norm.bias[...] = jnp.arange(8.0)
    np.testing.assert_allclose(np.asarray(norm(jnp.full((2, 8), 3, dtype)), np.float32), [np.arange(8)] * 2)


def double_and_add(layer, x):
    return 2 * x + layer


@pytest.mark.parametrize("keep_layers", [1, 2, 3])
def test_the_last_layers_outputs_are_kept_in_order(keep_layers):
    x = jnp.array([[[0.0, 1.0]]])
    outputs = scan_layers(double_and_add, jnp.array([1.0, 10.0, 100.0]), x, keep_layers)
    expected = np.array([[1, 3], [12, 16], [124, 132]])
    np.testing.assert_array_equal(outputs[:, 0, 0], expected[-keep_layers:])


@pytest.mark.parametrize("keep_layers", [0, 4])
def test_keeping_none_or_more_than_there_are_is_an_error(keep_layers):
    with pytest.raises(ValueError, match=f"keep_layers={keep_layers}, but the model has 3 layers"):
        scan_layers(double_and_add, jnp.ones(3), jnp.ones((1, 1, 2)), keep_layers)
