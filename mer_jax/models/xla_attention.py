"""Attention as matrix products and a softmax, which every device has."""

import jax
import jax.numpy as jnp

from mer_jax.runtime.array_types import Array, Bool, Float, Int

# Tokens. The logits of a block of queries stay on a TPU's chip; those of whole sequences that are longer do not, which
# would make attention a half of what a network takes.
LONG, BLOCK = 512, 128


def xla_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S key_heads H"],
    v: Float[Array, "B S key_heads H"],
    lengths: Int[Array, "B"] | None = None,
    causal: bool = False,
    mask: Bool[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
) -> Float[Array, "B T N H"]:
    """`mer_jax.models.attention.attention`, of a long sequence for one BLOCK of queries after the other."""
    if lengths is not None:
        real = jnp.arange(k.shape[1]) < lengths[:, None, None, None]  # [B, 1, 1, S]
        mask = real if mask is None else mask & real
    if causal:
        past = jnp.arange(k.shape[1]) <= jnp.arange(q.shape[1])[:, None]  # [T, S]
        mask = past if mask is None else mask & past
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
    # Heads before time first: as one product with heads in the middle, XLA takes twice as long on a CPU.
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    queries, blocks = q.shape[2], []
    step = BLOCK if queries > LONG else queries
    for first in range(0, queries, step):
        own = slice(first, first + step)
        of_own = (x if x is None or x.ndim < 2 or x.shape[-2] == 1 else x[..., own, :] for x in (mask, bias))
        blocks.append(products(q[:, :, own], k, v, *of_own))
    return jnp.concatenate(blocks, axis=2).transpose(0, 2, 1, 3)


def products(
    q: Float[Array, "B N T H"],
    k: Float[Array, "B N S H"],
    v: Float[Array, "B N S H"],
    mask: Bool[Array, "..."] | None,
    bias: Float[Array, "..."] | None,
) -> Float[Array, "B N T H"]:
    """`xla_attention` of the queries of a block."""
    logits = jnp.einsum("BNTH,BNSH->BNTS", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if bias is not None:
        logits += bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("BNTS,BNSH->BNTH", weights, v)
