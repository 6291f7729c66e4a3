"""What the ports' layers share: activations, layer normalisation, and the scan that keeps only what is asked for."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_jax.runtime.array_types import Array, Float, Float32, Int
from mer_jax.runtime.devices import device_of
from mer_jax.runtime.errors import DataError

Layers = TypeVar("Layers")


def gelu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x Phi(x) by the error function, as torch has it; jax.nn.gelu's complement of it is dearer, above all on TPUs.

    In bfloat16 by a tanh, which a TPU's units have, of a polynomial fitted to it: where the result is above 1e-3, it is
    off by 1.2e-3 of it at most, less than rounding to bfloat16 may be (2e-3), elsewhere by 2e-6.
    """
    y = x.astype(jnp.float32)
    if x.dtype == jnp.bfloat16:
        square = jnp.minimum(y * y, 64.0)
        erf = jnp.tanh(y * (0.797666779 + square * (0.0371477698 - 0.000382804149 * square)))
    else:
        erf = jax.lax.erf(y * np.float32(np.sqrt(0.5)))
    return (0.5 * y * (1 + erf)).astype(x.dtype)


def in_float32(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """`function` computed in float32 whatever the input is, as torch does; in the dtype of the input."""
    return lambda x: function(x.astype(jnp.float32)).astype(x.dtype)


gelu_tanh = in_float32(partial(jax.nn.gelu, approximate=True))

# Under their Hugging Face names.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "silu": in_float32(jax.nn.silu),
}


def known_activation(name: str) -> str:
    """`name` itself, from a config's field; DataError if there is no such activation here."""
    if name not in ACTIVATIONS:
        raise DataError(f"config.json asks for activation {name!r}; expected one of {', '.join(ACTIVATIONS)}")
    return name


def materialise(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """`x`, computed once and for all: an MLP's activations before the product that reads them.

    XLA would put both of an MLP's products for a TPU into one loop, and compute each activation in it several times.
    """
    return jax.lax.optimization_barrier(x)


def unrolled(x: Float[Array, "*B"], layers: int | bool) -> int | bool:
    """How many layers a pass of the loop over them has, True: all: `layers` on a TPU, elsewhere one.

    A TPU keeps what is between those of a pass on the chip; the more there are, the longer compiling takes.
    """
    return layers if device_of(x).platform == "tpu" else 1


def layer_at(layers: Layers, index: int | Int[Array, ""]) -> Layers:
    """One of the stacked layers. The stack is indexed, not cut in slices, which would copy the weights."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), layers)


class LayerNorm(nnx.Module):
    """Over the last axis, in float32 whatever the input is. Flax's takes 1.6 times as long on a CPU."""

    def __init__(self, width: int, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """In the dtype of `x`."""
        wide = x.astype(jnp.float32)
        mean = wide.mean(axis=-1, keepdims=True)
        if read_once(x):
            variance = jnp.maximum(jnp.square(wide).mean(axis=-1, keepdims=True) - jnp.square(mean), 0)
        else:
            variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
        return self.scaled(wide - mean, variance).astype(x.dtype)

    def scaled(self, centred: Float32[Array, "*B D"], variance: Float32[Array, "*B 1"]) -> Float32[Array, "*B D"]:
        """The norm of what has mean 0 and that variance over the last axis."""
        return centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale + self.bias


def read_once(x: Float[Array, "*B D"]) -> bool:
    """Whether a norm takes the variance from sums of squares, which it has by reading `x` once.

    In bfloat16, where what cancels is far below the rounding of `x` itself; but not on a GPU, where XLA makes three
    kernels of it, which read `x` twice, and of the other form one, which reads it once.
    """
    return x.dtype == jnp.bfloat16 and device_of(x).platform != "gpu"


class EncoderOutput(NamedTuple):
    """Of the speech and language encoders. Positions from `lengths` on hold finite values without meaning."""

    hidden_states: Float[Array, "keep B T D"]  # of the last layers, in their order
    lengths: Int[Array, "B"]  # real positions of each row


def scan_layers(
    apply_layer: Callable[[Layers, Float[Array, "B T D"]], Float[Array, "B T D"]],
    layers: Layers,
    x: Float[Array, "B T D"],
    keep_layers: int,
) -> Float[Array, "{keep_layers} B T D"]:
    """`apply_layer` of one after another of the stacked layers -> the outputs of the last `keep_layers`.

    For frozen layers: gradients by their weights would be summed up in arrays as large as the stack.

    Raises:
        ValueError: `keep_layers` is not between 1 and the number of layers.
    """
    num_layers = len(jax.tree.leaves(layers)[0])
    if not 1 <= keep_layers <= num_layers:
        raise ValueError(f"keep_layers={keep_layers}, but the model has {num_layers} layers")
    first_kept = num_layers - keep_layers

    def step(x: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = apply_layer(layer_at(layers, index), x)
        return x, x

    def dropped(x: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        return step(x, index)[0], None

    x, _ = jax.lax.scan(dropped, x, jnp.arange(first_kept), unroll=unrolled(x, 4))
    return jax.lax.scan(step, x, jnp.arange(first_kept, num_layers), unroll=unrolled(x, True))[1]


def with_last(
    norm: Callable[[Float[Array, "..."]], Float[Array, "..."]], hidden_states: Float[Array, "keep B T D"]
) -> Float[Array, "keep B T D"]:
    """The hidden states, of which the last alone has passed the norm."""
    return jnp.concatenate([hidden_states[:-1], norm(hidden_states[-1:])])
