"""Activation functions under their Hugging Face names."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mer_jax.runtime.errors import DataError


def gelu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x Phi(x) by the error function, as torch has it; jax.nn.gelu's complement of it is dearer, above all on TPUs."""
    y = x.astype(jnp.float32)
    return (0.5 * y * (1 + jax.lax.erf(y * np.float32(np.sqrt(0.5))))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


def known_activation(name: str) -> str:
    """`name` itself, for a config's field.

    Raises:
        DataError: there is no such activation here.
    """
    if name not in ACTIVATIONS:
        raise DataError(f"config.json asks for activation {name!r}; expected one of {', '.join(ACTIVATIONS)}")
    return name


def materialise(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """`x`, computed once and for all: an MLP's activations before the product that reads them.

    XLA would put both of an MLP's products for a TPU into one loop, and compute each activation in it several times.
    """
    return jax.lax.optimization_barrier(x)
