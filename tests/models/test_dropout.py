import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.models.dropout import dropout_masks


def testdropout_masks_have_their_rate_and_expectation():
    masks = dropout_masks({"a": 301, "b": 200}, 101, jnp.float32(0.3), jax.random.key(0))
    assert masks["a"].shape == (101, 301)
    assert masks["b"].shape == (101, 200)
    both = jnp.concatenate([masks["a"], masks["b"]], axis=1)
    np.testing.assert_allclose(np.unique(both), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(both.mean(), 1, atol=0.01)
    for draws in (both, both.T):  # the mean square correlation of unrelated rows of n draws is 1 / (n - 1)
        rows, length = draws.shape
        squares = jnp.square(jnp.corrcoef(draws)).sum() - rows
        np.testing.assert_allclose(squares / (rows * (rows - 1)), 1 / (length - 1), rtol=0.05)
    other = dropout_masks({"a": 301}, 101, jnp.float32(0.3), jax.random.key(1))["a"]
    np.testing.assert_allclose(jnp.corrcoef(other.ravel(), masks["a"].ravel())[0, 1], 0, atol=0.03)
    np.testing.assert_allclose(jnp.corrcoef(masks["a"][:, :200].ravel(), masks["b"].ravel())[0, 1], 0, atol=0.03)
