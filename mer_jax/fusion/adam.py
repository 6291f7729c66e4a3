"""torch's Adam, for trials of different lengths side by side."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mer_jax.runtime.array_types import PyTree


class Moments(NamedTuple):
    """The state of `adam`."""

    steps: jax.Array  # taken so far
    first: PyTree
    second: PyTree

    @classmethod
    def zeros(cls, params: PyTree) -> "Moments":
        zeros = jax.tree.map(jnp.zeros_like, params)
        return cls(jnp.int32(0), zeros, zeros)


def adam(
    grads: PyTree,
    params: PyTree,
    moments: Moments,
    learning_rate: jax.Array | float,
    l2: jax.Array | float,
    active: jax.Array | bool = True,
) -> tuple[PyTree, Moments]:
    """One step of torch's Adam: `l2` times the parameters joins the gradient. Nothing moves if not `active`.

    Equals `optax.chain(add_decayed_weights, adam)`. Trials that are done with their epoch are held still through the
    decay rates, because a select on the results makes XLA copy every parameter and moment at every step.
    """
    b1, b2, eps = 0.9, 0.999, 1e-8
    keep1, keep2 = jnp.where(active, b1, 1.0), jnp.where(active, b2, 1.0)
    take1, take2 = jnp.where(active, 1 - b1, 0.0), jnp.where(active, 1 - b2, 0.0)
    steps = moments.steps + active
    rate = jnp.where(active, learning_rate, 0.0) / (1 - b1 ** jnp.maximum(steps, 1))
    unbias2 = 1 / (1 - b2 ** jnp.maximum(steps, 1))

    grads = jax.tree.map(lambda g, p: g + l2 * p, grads, params)
    first = jax.tree.map(lambda m, g: keep1 * m + take1 * g, moments.first, grads)
    second = jax.tree.map(lambda v, g: keep2 * v + take2 * jnp.square(g), moments.second, grads)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * unbias2) + eps), params, first, second)
    return params, Moments(steps, first, second)
