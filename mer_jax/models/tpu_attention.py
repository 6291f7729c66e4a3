"""Attention as one kernel on a TPU, forward and of short sequences backward, which keeps no logits in memory.

A step of it takes heads of a row of the batch, and of a long one a block of queries: as their projections left them,
head beside head, so that nothing is transposed. Logits are [keys, queries], whose softmax goes along whole registers.
The next heads' logits are asked for before this one's softmax, for the matrix and the vector units to work at once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, PartitionSpec

from mer_jax.models.xla_attention import xla_attention
from mer_jax.runtime.array_types import Array, Bool, Float, Float32, Int
from mer_jax.runtime.devices import shards

LANES = 128  # of a register
WIDEST = 4096  # of the heads that a step takes, all its arrays together, of up to SHORT keys; of more keys, fewer
BIASES = 2**19  # values of a bias that a step takes at most
AHEAD = 3  # heads whose logits are asked for before one's softmax, or as few as have LOGITS
LOGITS = 2**18
SHORT = 512  # tokens whose queries all go in one step
BLOCK = 384  # queries of more tokens that go in one
LONGEST = 2048  # keys that the kernel takes
LOG2_E = float(np.log2(np.e))

Block = Any  # a reference to a part of an array, in the chip's fast memory


def tpu_takes(q: Array, k: Array, v: Array, bias: Array | None = None) -> bool:
    """Whether the kernel is for such arrays, [B, T, N, H] and [B, S, key_heads, H]."""
    (_, queries, heads, size), keys = q.shape, k.shape[1]
    if not q.dtype == k.dtype == v.dtype == jnp.bfloat16 or k.shape[2] != heads:
        return False
    if bias is not None and bias.shape[1:] != (heads, queries, keys):
        return False
    biases = 0 if bias is None else keys * queries_at_once(queries, keys)
    at_once = width_at_once(heads // shards(q, "model"), size, keys, biases=biases)
    return queries > 1 and keys <= LONGEST and at_once > 0  # one query, as in CLIP's last layers, has hardly any logits


def queries_at_once(queries: int, keys: int) -> int:
    """Of one row, in a step."""
    return queries if max(queries, keys) <= SHORT else min(queries, BLOCK)


def width_at_once(heads: int, size: int, keys: int, arrays: int = 4, biases: int = 0) -> int:
    """Of the most heads of that size which a step on so many arrays can take: whole registers; 0: none.

    All heads, or an equal part of them. biases: values of a head's bias.
    """
    widest = WIDEST * SHORT // (arrays * max(keys, SHORT))
    parts = (heads // n for n in range(1, heads + 1) if heads % n == 0)
    widths = (part * size for part in parts if part * biases <= BIASES)
    return next((x for x in widths if x <= widest and x % LANES == 0 and LANES % size == 0), 0)


def tpu_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S N H"],
    v: Float[Array, "B S N H"],
    lengths: Int[Array, "B"] | None = None,
    causal: bool = False,
    bias: Float[Array, "#B N T S"] | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """`mer_jax.models.attention.attention` of arrays that the kernel takes. interpret: slowly, on any device."""
    kernel: Callable[..., Array] = partial(attend, Kind(q.shape[-1], causal, interpret))
    arrays = [x.reshape(*x.shape[:2], -1) for x in (q, k, v)]
    if bias is not None:  # for powers of 2
        bias = jnp.maximum(bias.swapaxes(2, 3).astype(jnp.float32) * LOG2_E, jnp.finfo(jnp.float32).min)
    mesh = jax.typeof(q).sharding.mesh
    if AxisType.Auto in mesh.axis_types:  # XLA does not split a kernel over devices by itself
        model = "model" if "model" in mesh.shape else None
        rows, heads = PartitionSpec("data"), PartitionSpec("data", None, model)
        of_bias = PartitionSpec("data" if bias is not None and len(bias) > 1 else None, model)
        places = (heads, heads, heads, rows, of_bias)
        kernel = jax.shard_map(kernel, mesh=mesh, in_specs=places, out_specs=heads, check_vma=False)
    return kernel(*arrays, lengths, bias).reshape(q.shape)


class Kind(NamedTuple):
    """Of attention."""

    size: int  # of a head
    causal: bool
    interpret: bool


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(kind: Kind, q: Array, k: Array, v: Array, lengths: Array | None, bias: Array | None) -> Array:
    """[B, T, N H], [B, S, N H], perhaps lengths [B] and a bias [#B, N, S, T] for powers of 2 -> [B, T, N H]."""
    (out,) = call(forward, kind, (q, k, v), (q,), lengths, bias)
    return out


def attend_forward(kind: Kind, *arrays: Any) -> tuple[Array, tuple[Any, ...]]:
    """The output, and what its gradients are computed from."""
    return attend(kind, *arrays), arrays


def attend_backward(kind: Kind, arrays: tuple[Any, ...], dout: Array) -> tuple[Array | None, ...]:
    """The gradients, of long sequences and beside a bias those of XLA's attention; `lengths` have none."""
    q, k, v, lengths, bias = arrays
    if bias is None and q.shape[1] <= SHORT and k.shape[1] <= SHORT:
        return *call(backward, kind, (q, k, v, dout), (q, k, v), lengths), None, None

    def plain(q: Array, k: Array, v: Array, bias: Array | None) -> Array:
        q, k, v = (x.reshape(*x.shape[:2], -1, kind.size) for x in (q, k, v))
        added = None if bias is None else bias.swapaxes(2, 3) / LOG2_E
        return xla_attention(q, k, v, lengths, kind.causal, bias=added).reshape(dout.shape)

    dq, dk, dv, dbias = jax.vjp(plain, q, k, v, bias)[1](dout)
    return dq, dk, dv, None, dbias


attend.defvjp(attend_forward, attend_backward)


def call(
    kernel: Callable[..., None],
    kind: Kind,
    arrays: Sequence[Array],
    outputs: Sequence[Array],
    lengths: Array | None,
    bias: Array | None = None,
) -> Sequence[Array]:
    """A kernel on each row, group of heads and block of queries.

    Args:
        arrays: the queries, the keys, the values, and in a kernel of all queries what else there is.
        outputs: arrays that its outputs are like, the first one the queries.
    """
    (rows, queries, width), keys, size = arrays[0].shape, arrays[1].shape[1], kind.size
    block = queries_at_once(queries, keys)
    at_once = width_at_once(width // size, size, keys, len(arrays) + len(outputs), 0 if bias is None else keys * block)
    of_queries = pl.BlockSpec((1, block, at_once), lambda row, group, index: (row, index, group))

    def whole(x: Array) -> pl.BlockSpec:
        return pl.BlockSpec((1, x.shape[1], at_once), lambda row, group, index: (row, 0, group))

    def of_bias(row: Array, group: Array, index: Array) -> tuple[Array | int, ...]:
        return row if bias is not None and len(bias) > 1 else 0, group, 0, index

    def step(lengths: Block, bias: Block, *blocks: Block) -> None:
        length = None if lengths is None else lengths[pl.program_id(0)]
        first = 0 if block == queries else pl.program_id(2) * block
        kernel(Seen(size, first, length, kind.causal, bias), *blocks)

    return pl.pallas_call(
        step,
        grid=(rows, width // at_once, pl.cdiv(queries, block)),
        in_specs=[
            None if lengths is None else pl.BlockSpec(memory_space=pltpu.SMEM),
            None if bias is None else pl.BlockSpec((1, at_once // size, keys, block), of_bias),
            *(of_queries, *map(whole, arrays[1:])),
        ],
        out_specs=[of_queries, *map(whole, outputs[1:])],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * 3),
        interpret=kind.interpret,
        name=f"attention_{kernel.__name__}_{block}x{keys}x{at_once}",
    )(lengths, bias, *arrays)


class Seen(NamedTuple):
    """What queries see of keys in a step."""

    size: int  # of a head
    first: int | Int[Array, ""]  # of the queries
    length: Int[Array, ""] | None  # how many keys there are; None: all
    causal: bool
    bias: Block  # [1, heads, S, T]; None: none


def visible(seen: Seen, keys: int, columns: int, after: int = 0, each: int = 1) -> Bool[Array, "S columns"] | None:
    """Which keys the query of each column sees; None: all. after: queries before that of the first `each` columns."""
    key, column = (jax.lax.broadcasted_iota(jnp.int32, (keys, columns), axis) for axis in (0, 1))
    past = key <= seen.first + after + jax.lax.div(column, each)
    if seen.length is None:
        return past if seen.causal else None
    return (key < seen.length) & past if seen.causal else key < seen.length


def masked(logits: Float32[Array, "S T"], mask: Bool[Array, "S T"] | None) -> Float32[Array, "S T"]:
    """The logits of the keys that are seen."""
    return logits if mask is None else jnp.where(mask, logits, jnp.finfo(jnp.float32).min)


def all_logits(
    q: Block, k: Block, seen: Seen, queries: int, ahead: int = 1
) -> Iterator[tuple[slice, Float32[Array, "S T"]]]:
    """Each head's place, and for powers of 2 its logits of the first queries, those of heads ahead being asked for."""
    heads = [slice(start, start + seen.size) for start in range(0, q.shape[-1], seen.size)]
    products = (product(k[0, :, head], q[0, :queries, head], 1, 1) for head in heads)
    mask, waiting = visible(seen, k.shape[1], queries), deque(islice(products, ahead))
    for index, head in enumerate(heads):
        waiting.extend(islice(products, 1))
        logits = waiting.popleft() * (seen.size**-0.5 * LOG2_E)
        if seen.bias is not None:
            logits += seen.bias[0, index]
        yield head, masked(logits, mask)


def product(x: Float[Array, "..."], y: Float[Array, "..."], x_axis: int, y_axis: int) -> Float32[Array, "..."]:
    """Of two matrices, summed over an axis of each."""
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)


def softmax(logits: Float32[Array, "S T"]) -> tuple[Float32[Array, "S T"], Float32[Array, "1 T"]]:
    """Weights of the keys, and what to multiply them by."""
    weights = jnp.exp2(logits - logits.max(0, keepdims=True))
    return weights, 1 / weights.sum(0, keepdims=True)


def put(out: Block, queries: int, end: int, parts: list[Array], part: Float32[Array, "H T"]) -> None:
    """Writes the first queries of a head that ends there with those before it, once they fill registers."""
    parts.append(part)
    if len(parts) * len(part) == LANES:
        out[0, :queries, end - LANES : end] = jnp.concatenate(parts).T.astype(out.dtype)
        parts.clear()


def forward(seen: Seen, q: Block, k: Block, v: Block, out: Block) -> None:
    """A step's outputs, [1, T, N H] of q and out, [1, S, N H] of k and v."""
    queries, width = q.shape[1:]
    last = queries % LANES  # few, such as one class token, would take a register for each head
    if seen.bias is not None or last * width // seen.size > min(LANES, queries - 1):
        last = 0
    first = queries - last
    ahead = max(1, min(AHEAD, LOGITS // (first * k.shape[1])))
    parts: list[Array] = []
    for head, logits in all_logits(q, k, seen, first, ahead):
        weights, scale = softmax(logits)
        put(out, first, head.stop, parts, product(v[0, :, head], weights.astype(v.dtype), 0, 0) * scale)
    if last:
        out[0, first:] = heads_together(seen, q[0, first:], k[0], v[0], first)


def heads_together(seen: Seen, q: Array, k: Array, v: Array, first: int) -> Float[Array, "few width"]:
    """Outputs of the few queries from `first` on, [few, N H]: each column of the logits is one query of one head.

    k, v: [S, N H].
    """
    width = q.shape[1]
    heads = width // seen.size
    head, lane = (jax.lax.broadcasted_iota(jnp.int32, (heads, width), axis) for axis in (0, 1))
    own = head == jax.lax.div(lane, seen.size)
    wide = q.astype(jnp.float32)
    columns = jnp.concatenate([jnp.where(own, wide[i : i + 1], 0) for i in range(len(q))])  # [few heads, N H]
    logits = product(k, columns.astype(k.dtype), 1, 1) * (seen.size**-0.5 * LOG2_E)
    weights, scale = softmax(masked(logits, visible(seen, len(k), len(columns), first, heads)))
    outputs = product((weights * scale).astype(v.dtype), v, 0, 0)  # [few heads, N H]
    each = [outputs[start : start + heads] for start in range(0, len(columns), heads)]
    return jnp.concatenate([jnp.where(own, x, 0).sum(0, keepdims=True) for x in each]).astype(q.dtype)


def backward(seen: Seen, q: Block, k: Block, v: Block, dout: Block, *outputs: Block) -> None:
    """A step's gradients by q, k and v from that by its outputs."""
    dq, dk, dv = outputs
    queries, parts = q.shape[1], list[Array]()
    for head, logits in all_logits(q, k, seen, queries):
        weights, scale = softmax(logits)
        weights *= scale
        dv[0, :, head] = product(weights.astype(v.dtype), dout[0, :, head], 1, 0).astype(v.dtype)
        dweights = product(v[0, :, head], dout[0, :, head], 1, 1)  # [S, T]
        dlogits = weights * (dweights - (weights * dweights).sum(0, keepdims=True)) * seen.size**-0.5
        dlogits = dlogits.astype(q.dtype)
        dk[0, :, head] = product(dlogits, q[0, :, head], 1, 0).astype(k.dtype)
        put(dq, queries, head.stop, parts, product(k[0, :, head], dlogits, 0, 0))
