"""Attention by products and a softmax: its blocks; tests/models/test_attention.py has the comparison with torch."""

import jax.numpy as jnp
import numpy as np

from mer_jax.models.xla_attention import xla_attention
from tests.models.test_attention import HEADS, KEYS, QUERIES, inputs


def test_a_long_sequence_in_blocks_gives_the_same(monkeypatch):
    """Of two queries, but for the last; what is said of each query goes with it."""
    q, k, v = inputs(2)
    mask = jnp.asarray(np.random.default_rng(1).random((QUERIES, KEYS)) < 0.6).at[:, 0].set(True)
    bias = jnp.asarray(np.random.default_rng(2).normal(size=(1, HEADS, QUERIES, KEYS)), jnp.float32)
    cases = [{}, {"mask": mask, "bias": bias}, {"mask": mask[0]}, {"lengths": jnp.array([7, 3]), "causal": True}]
    whole = [xla_attention(q, k, v, **case) for case in cases]
    monkeypatch.setattr("mer_jax.models.xla_attention.LONG", QUERIES - 1)
    monkeypatch.setattr("mer_jax.models.xla_attention.BLOCK", 2)
    for case, expected in zip(cases, whole, strict=True):
        np.testing.assert_allclose(xla_attention(q, k, v, **case), expected, atol=1e-6)
