"""What the speech and language encoders return, and the layer scan that keeps only what is asked for."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

KEEP_LAYERS = 4  # the last hidden states that are summed (paper, section 3.2)
Layers = TypeVar("Layers")


class EncoderOutput(NamedTuple):
    """Hidden states of the last layers.

    Attributes:
        hidden_states: in layer order, the last entry is the model's output. Positions from `lengths` on hold finite
            values without meaning.
        lengths: the number of real positions of each row.
    """

    hidden_states: Float[Array, "keep B T D"]
    lengths: Int[Array, "B"]


def scan_layers(
    apply_layer: Callable[[Layers, Float[Array, "B T D"]], Float[Array, "B T D"]],
    layers: Layers,
    x: Float[Array, "B T D"],
    keep_layers: int,
) -> Float[Array, "{keep_layers} B T D"]:
    """Runs stacked layers one after another and returns the outputs of the last `keep_layers`.

    Args:
        apply_layer: `(layer, x) -> x`, one layer.
        layers: pytree whose leaves have the layer on the leading axis.
        x: the input of the first layer.
        keep_layers: how many outputs to return, from 1 to the number of layers.

    Raises:
        ValueError: `keep_layers` is out of range.
    """
    num_layers = len(jax.tree.leaves(layers)[0])
    if not 1 <= keep_layers <= num_layers:
        raise ValueError(f"keep_layers={keep_layers}, but the model has {num_layers} layers")
    first_kept = num_layers - keep_layers

    # Slicing the stack in two scans would copy the weights, so there is one scan: the layers before the first
    # kept one write to slot 0, which that one overwrites.
    def step(
        carry: tuple[jax.Array, jax.Array], indexed_layer: tuple[jax.Array, Layers]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        x, kept = carry
        index, layer = indexed_layer
        x = apply_layer(layer, x)
        return (x, kept.at[jnp.maximum(index - first_kept, 0)].set(x)), None

    kept = jnp.zeros((keep_layers, *x.shape), x.dtype)
    (_, kept), _ = jax.lax.scan(step, (x, kept), (jnp.arange(num_layers), layers))
    return kept
