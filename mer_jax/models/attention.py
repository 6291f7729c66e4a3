"""Scaled dot-product attention, the one used by every model."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Implementation = Literal["xla", "cudnn"]


def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S key_heads H"],
    v: Float[Array, "B S key_heads H"],
    *,
    mask: Bool[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    impl: str = "xla",
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H) + bias) v, with the softmax in float32 whatever the inputs are; in the dtype of v.

    Args:
        q: the queries.
        k, v: of N heads, or of fewer, each shared by N / key_heads consecutive query heads.
        mask: broadcastable to [B, N, T, S]; False hides a key. A query that sees none gets finite, meaningless values.
        bias: broadcastable to [B, N, T, S], added to the logits.
        impl: "xla" anywhere; "cudnn" for float16 and bfloat16 on NVIDIA GPUs.
    """
    if impl == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask, implementation="cudnn")
    if impl != "xla":
        raise ValueError(f'impl={impl!r}: expected "xla" or "cudnn"')
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = jnp.repeat(k, groups, axis=2), jnp.repeat(v, groups, axis=2)
    # Heads before time first: as one product with heads in the middle, XLA takes twice as long on a CPU.
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    logits = jnp.einsum("BNTH,BNSH->BNTS", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if bias is not None:
        logits += bias
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("BNTS,BNSH->BNTH", weights, v).transpose(0, 2, 1, 3)
