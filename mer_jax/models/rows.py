"""A matrix product that leaves out rows: what modality dropout takes away costs nothing either."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

_SIZES = 4  # that a batch's rows are rounded up to; eighths are slower, their products being of odd shapes


@jax.custom_vjp
def product_of_rows(kernel: jax.Array, x: jax.Array, rows: jax.Array) -> jax.Array:
    """kernel [H, D], x [B, D], rows [B] bool -> [H, B]: `kernel @ x.T`, where x is zero but in `rows`.

    Only `rows`, rounded up to a quarter of the batch, are multiplied, here and for the kernel's gradient. Under
    `jax.vmap` all of them are: there a choice of sizes would compute every one.
    """
    return _outputs(kernel, x, rows)


def _forward(kernel: jax.Array, x: jax.Array, rows: jax.Array) -> tuple[jax.Array, Any]:
    return _outputs(kernel, x, rows), (kernel, x, rows)


def _backward(saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    kernel, x, rows = saved
    return _kernel_gradient(gradient, x, rows), jnp.einsum("HB,HD->BD", gradient, kernel), None


product_of_rows.defvjp(_forward, _backward)


def _skipping(product: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
    """Decorates `some`(a, x, order, size), which is `product`(a, x) of the first `size` rows in `order`."""

    def decorate(some: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]) -> Any:
        @custom_vmap
        def skipping(a: jax.Array, x: jax.Array, rows: jax.Array) -> jax.Array:
            order = jnp.argsort(~rows)  # the rows come first
            batch = len(rows)
            sizes = sorted({-(-batch * part // _SIZES) for part in range(1, _SIZES + 1)})
            branches = [lambda size=size: some(a, x, order, size) for size in sizes[:-1]]
            choice = jnp.searchsorted(jnp.array(sizes), jnp.sum(rows))
            return jax.lax.switch(choice, [*branches, lambda: product(a, x)])

        @skipping.def_vmap
        def batched(size: int, axes: Any, a: jax.Array, x: jax.Array, rows: jax.Array) -> Any:
            in_axes = [0 if axis else None for axis in axes[:2]]
            return jax.vmap(product, in_axes, axis_size=size)(a, x), True

        return skipping

    return decorate


@_skipping(lambda kernel, x: jnp.einsum("HD,BD->HB", kernel, x))
def _outputs(kernel: jax.Array, x: jax.Array, order: jax.Array, size: int) -> jax.Array:
    outputs = jnp.einsum("HD,BD->HB", kernel, x[order[:size]])
    return jnp.pad(outputs, ((0, 0), (0, len(x) - size)))[:, jnp.argsort(order)]


@_skipping(lambda gradient, x: jnp.einsum("HB,BD->HD", gradient, x))
def _kernel_gradient(gradient: jax.Array, x: jax.Array, order: jax.Array, size: int) -> jax.Array:
    return jnp.einsum("HB,BD->HD", gradient[:, order[:size]], x[order[:size]])
