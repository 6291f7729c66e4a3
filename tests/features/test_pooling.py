import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from mer_jax.features import mean_variance, merge_mean_variance


def test_equals_numpy_on_real_frames_and_never_reads_padding():
    rng = np.random.default_rng(0)
    lengths = np.array([7, 3, 1])
    x = rng.normal(size=(3, 7, 5)).astype(np.float32)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = np.nan
    pooled = jax.jit(mean_variance)(x, lengths)
    for row, length, got in zip(x, lengths, pooled, strict=True):
        frames = row[:length].astype(np.float64)
        np.testing.assert_allclose(got, np.r_[frames.mean(0), frames.var(0)], atol=1e-6)
    np.testing.assert_array_equal(pooled[2, 5:], 0)


def test_no_frames_pool_to_zeros():
    np.testing.assert_array_equal(mean_variance(jnp.full((1, 4, 2), jnp.nan), jnp.array([0])), np.zeros((1, 4)))


def test_variance_survives_a_large_mean_and_half_precision():
    x = 1e4 + np.random.default_rng(1).normal(size=(1, 1000, 1)).astype(np.float32)
    np.testing.assert_allclose(mean_variance(x, np.array([1000]))[0, 1], x.astype(np.float64).var(), rtol=1e-5)
    half = jnp.asarray(np.linspace(0, 1, 5000)[None, :, None], jnp.bfloat16)
    pooled = mean_variance(half, jnp.array([5000]))
    assert pooled.dtype == jnp.float32
    exact = np.asarray(half, np.float64)
    np.testing.assert_allclose(pooled[0], [exact.mean(), exact.var()], rtol=1e-5)


def test_shapes_are_checked_under_pytest():
    with pytest.raises(TypeCheckError, match="lengths"):
        mean_variance(jnp.ones((2, 3, 4)), jnp.array([3, 3, 3]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), st.integers(0, 1000))
def test_merged_chunks_equal_the_whole_clip(counts, seed):
    frames = np.random.default_rng(seed).normal(3, 2, size=(sum(counts), 4))
    chunks = np.split(frames, np.cumsum(counts)[:-1])
    pooled = np.stack([np.r_[c.mean(0), c.var(0)] if len(c) else np.zeros(8) for c in chunks])
    merged = merge_mean_variance(np.array(counts), pooled)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, np.r_[frames.mean(0), frames.var(0)], atol=1e-5)
