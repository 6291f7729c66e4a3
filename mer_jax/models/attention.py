"""Scaled dot-product attention, the one used by every model, and which kernel computes it."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.defaults import ATTENTION
from mer_jax.models.tpu_attention import tpu_attention, tpu_takes
from mer_jax.models.xla_attention import xla_attention
from mer_jax.runtime.array_types import Array, Bool, Float, Int, Int32
from mer_jax.runtime.devices import device_of

# Of compute capability 9.0 and more: H100, H200, GH200, B200, GB200, ...
HOPPER_OR_LATER = re.compile(r"NVIDIA (G?[HB]\d|.*Blackwell)")


@jax.named_scope("attention")
def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S key_heads H"],
    v: Float[Array, "B S key_heads H"],
    *,
    lengths: Int[Array, "B"] | None = None,
    causal: bool = False,
    mask: Bool[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    impl: str = "auto",
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H) + bias) v, with the softmax in float32 whatever the inputs are; in the dtype of v.

    A query that sees no key gets finite, meaningless values.

    Args:
        q: the queries.
        k, v: of N heads, or of fewer, each shared by N / key_heads consecutive query heads.
        lengths: keys of each row; those that follow are hidden.
        causal: hides the keys after t from query t.
        mask: broadcastable to [B, N, T, S]; False hides a key.
        bias: broadcastable to [B, N, T, S], added to the logits.
        impl: "xla", anywhere; "cudnn", NVIDIA's fused kernel, which keeps no logits, where `cudnn_takes` the arrays,
            else "xla"; "pallas", a TPU's own (mer_jax/models/tpu_attention.py), where `tpu_takes` them, else "xla";
            "auto", "cudnn" on GPUs from Hopper on (some older ones are slower by it), "pallas" on TPUs, else "xla".
            What they give differs by rounding alone.

    Raises:
        ValueError: there is no such implementation.
    """
    if impl not in ATTENTION:
        raise ValueError(f"impl={impl!r}: expected one of {', '.join(ATTENTION)}")
    if impl == "auto":
        device = device_of(q)
        impl = "pallas" if device.platform == "tpu" else "cudnn" if is_hopper_or_later(device) else "xla"
    if impl == "cudnn" and mask is None and cudnn_takes(q, k, v, bias):
        return cudnn_attention(q, k, v, lengths, causal, bias)
    if impl == "pallas" and mask is None and tpu_takes(q, k, v, bias):
        return tpu_attention(q, k, v, lengths, causal, bias)
    return xla_attention(q, k, v, lengths, causal, mask, bias)


def is_hopper_or_later(gpu: Any) -> bool:
    """Whether a device is an NVIDIA GPU of compute capability 9.0 or more; one that is not here goes by its name."""
    if gpu.platform != "gpu":
        return False
    capability = [device.compute_capability for device in jax.local_devices() if device.device_kind == gpu.device_kind]
    return float(capability[0]) >= 9 if capability else HOPPER_OR_LATER.match(gpu.device_kind) is not None


def cudnn_takes(q: Array, k: Array, v: Array, bias: Array | None) -> bool:
    """Whether cuDNN's kernel is for such arrays, forward and backward (jax/_src/cudnn/fused_attention_stablehlo.py)."""
    _, queries, _, width = q.shape
    if not (q.dtype == k.dtype == v.dtype and q.dtype in (jnp.bfloat16, jnp.float16)):
        return False
    if bias is not None and (bias.shape[-2:] != (queries, k.shape[1]) or queries % 2 or k.shape[1] % 2):
        return False
    # One query, as in CLIP's last layers, has hardly any logits, and not every version takes it backward.
    return queries > 1 and width <= 128 and width % 8 == 0


def cudnn_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S key_heads H"],
    v: Float[Array, "B S key_heads H"],
    lengths: Int[Array, "B"] | None,
    causal: bool,
    bias: Float[Array, "..."] | None,
) -> Float[Array, "B T N H"]:
    """`attention` by cuDNN's kernel."""
    if lengths is not None:
        lengths = jnp.maximum(lengths, per_row(q, 1))  # of no keys at all the softmax is NaN
    if q.shape[1] % 2 or k.shape[1] % 2:
        return odd_attention(q, k, v, lengths, causal)
    return fused(q, k, v, lengths, causal, None if bias is None else bias.astype(q.dtype))


def fused(q: Array, k: Array, v: Array, lengths: Array | None, causal: bool, bias: Array | None = None) -> Array:
    """The kernel's call. The queries have their lengths as well, or jax.vmap would not take the keys'."""
    queries = None if lengths is None else per_row(q, q.shape[1])
    return jax.nn.dot_product_attention(
        *(q, k, v, bias),
        is_causal=causal,
        query_seq_lengths=queries,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )


def per_row(x: Float[Array, "B ..."], number: int) -> Int32[Array, "B"]:
    """A number for each row of `x`; JAX's rule for jax.vmap over the kernel wants it batched as `x` is."""
    return jnp.where(x[:, 0, 0, 0] == 0, np.int32(number), np.int32(number))


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def odd_attention(q: Array, k: Array, v: Array, lengths: Array | None, causal: bool) -> Array:
    """`fused` for odd numbers of queries or keys, which JAX refuses to differentiate: there they are padded."""
    return fused(q, k, v, lengths, causal)


def odd_attention_forward(q: Array, k: Array, v: Array, lengths: Array | None, causal: bool) -> tuple[Array, Any]:
    """The output, and what gives the gradients."""
    lengths = per_row(k, k.shape[1]) if lengths is None else lengths

    def padded(q: Array, k: Array, v: Array) -> Array:
        even = [jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v)]
        return fused(even[0], even[1], even[2], lengths, causal)[:, : q.shape[1]]

    return jax.vjp(padded, q, k, v)


def odd_attention_backward(causal: bool, backward: Any, gradient: Array) -> tuple[Array | None, ...]:
    """The gradients; `lengths` has none."""
    return *backward(gradient), None


odd_attention.defvjp(odd_attention_forward, odd_attention_backward)
