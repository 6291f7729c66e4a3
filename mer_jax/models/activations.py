"""Activation functions under their Hugging Face names."""

from collections.abc import Callable
from functools import partial

import jax

from mer_jax.errors import DataError

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
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
