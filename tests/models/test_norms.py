import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.norms import LayerNorm


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


@pytest.mark.parametrize("offset", [0.0, 1.0, 30.0])
def test_bfloat16_loses_no_more_than_its_rounding(offset):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7, 256)) + offset, jnp.bfloat16)
    norm = LayerNorm(256, 1e-5)
    out = norm(x)
    assert out.dtype == jnp.bfloat16
    expected = reference(x, norm)
    np.testing.assert_allclose(np.asarray(out, np.float64), expected, atol=2**-8 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_constant_row_gives_the_bias(dtype):
    norm = LayerNorm(8, 1e-5)
    norm.bias[...] = jnp.arange(8.0)
    np.testing.assert_allclose(np.asarray(norm(jnp.full((2, 8), 3, dtype)), np.float32), [np.arange(8)] * 2)
