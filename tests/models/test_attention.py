import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.attention import attention

BATCH, QUERIES, KEYS, HEADS, WIDTH = 2, 5, 7, 4, 8


def inputs(key_heads=HEADS, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(BATCH, QUERIES, HEADS, WIDTH))
    k, v = rng.normal(size=(2, BATCH, KEYS, key_heads, WIDTH))
    return [jnp.asarray(x, dtype) for x in (q, k, v)]


def torch_attention(q, k, v, mask=None):
    import torch

    q, k, v = (torch.tensor(np.asarray(x)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else torch.tensor(np.asarray(mask))
    x = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return {"output": x.transpose(1, 2)}


@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
def test_matches_torch(key_heads, oracle):
    q, k, v = inputs(key_heads)
    expected = oracle(f"attention/{key_heads}_key_heads", lambda: torch_attention(q, k, v))
    np.testing.assert_allclose(attention(q, k, v), expected["output"], atol=1e-6)


def test_mask_and_bias_match_torch(oracle):
    q, k, v = inputs()
    rng = np.random.default_rng(1)
    mask = rng.random((BATCH, 1, QUERIES, KEYS)) < 0.6
    mask[..., 0] = True
    bias = jnp.asarray(rng.normal(size=(1, HEADS, QUERIES, KEYS)), jnp.float32)
    both = np.where(mask, bias, -np.inf).astype(np.float32)
    expected = oracle("attention/mask_and_bias", lambda: torch_attention(q, k, v, both))
    np.testing.assert_allclose(attention(q, k, v, mask=jnp.asarray(mask), bias=bias), expected["output"], atol=1e-6)


def test_hidden_keys_do_not_matter_and_a_blind_query_stays_finite():
    q, k, v = inputs()
    mask = jnp.arange(KEYS) < 3
    changed = k.at[:, 3:].set(1e4), v.at[:, 3:].set(-1e4)
    np.testing.assert_array_equal(attention(q, k, v, mask=mask), attention(q, *changed, mask=mask))
    assert np.isfinite(attention(q, k, v, mask=jnp.zeros(KEYS, bool))).all()


def test_softmax_is_float32_for_bfloat16_inputs():
    q, k, v = inputs(dtype=jnp.bfloat16)
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    exact = attention(*(x.astype(jnp.float32) for x in (q, k, v)))
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.02)
    # The products 256 and 257 are one number in bfloat16.
    q = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
    k = jnp.asarray([[256, 0], [256, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    v = jnp.asarray([[0, 0], [1, 1]], jnp.bfloat16).reshape(1, 2, 1, 2)
    np.testing.assert_allclose(float(attention(q, k, v)[0, 0, 0, 0]), 1 / (1 + np.exp(-(2**-0.5))), atol=4e-3)


def test_unknown_implementation():
    with pytest.raises(ValueError, match="flash"):
        attention(*inputs(), impl="flash")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
def test_cudnn_matches_xla():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 64, 4, 64)), jnp.bfloat16) for _ in range(3))
    mask = jnp.tril(jnp.ones((1, 1, 64, 64), bool))
    got = attention(q, k, v, mask=mask, impl="cudnn").astype(jnp.float32)
    expected = attention(q, k, v, mask=mask).astype(jnp.float32)
    np.testing.assert_allclose(got, expected, atol=0.03)
