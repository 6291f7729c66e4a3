import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.models.rows import product_of_rows


def operands(rows, width=6, hidden=3):
    rng = np.random.default_rng(len(rows))
    kernel, x, weights = (rng.normal(size=size) for size in ((hidden, width), (len(rows), width), (hidden, len(rows))))
    return [jnp.asarray(array, jnp.float32) for array in (kernel, x * np.array(rows)[:, None], weights)]


def products(product, kernel, x, weights):
    """The product, and the gradients of a weighted sum of it."""
    return product(kernel, x), *jax.grad(lambda *args: jnp.sum(product(*args) * weights), (0, 1))(kernel, x)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=13))
def test_the_product_and_its_gradients_are_those_of_all_rows(rows):
    kernel, x, weights = operands(rows)
    skipping = products(lambda kernel, x: product_of_rows(kernel, x, jnp.array(rows)), kernel, x, weights)
    plain = products(lambda kernel, x: kernel @ x.T, kernel, x, weights)
    for ours, expected in zip(skipping, plain, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_vmap_multiplies_all_rows_without_a_branch():
    rows = jnp.array([[True, False, True], [False, False, True]])
    kernel, x, _ = operands(rows[0])
    batched = jax.vmap(product_of_rows, in_axes=(None, 0, 0))
    xs = jnp.stack([x, x * rows[1][:, None]])
    np.testing.assert_allclose(batched(kernel, xs, rows), np.einsum("hd,nbd->nhb", kernel, xs), atol=1e-5)
    assert "cond" not in str(jax.make_jaxpr(batched)(kernel, xs, rows))
    assert "cond" in str(jax.make_jaxpr(product_of_rows)(kernel, x, rows[0]))
