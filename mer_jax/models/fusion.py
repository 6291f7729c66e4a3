"""Attention fusion of utterance-level embeddings with modality dropout (paper, section 3.3 and Eq. 2).

The network is the `attention` model of the MER2024 baseline (MERTools, MERBench/toolkit/models/attention.py)
for any number of modalities, and of streams of each.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from mer_jax.defaults import DROPOUT, HIDDEN, MODALITY_DROPOUT, in_order
from mer_jax.runtime.array_types import Array, Bool, Float, Float32, Int, Num, PRNGKeyArray, UInt32

SCORER = ""  # which no stream is called


class FusionOutput(NamedTuple):
    logits: Float32[Array, "B C"]
    attention: Float32[Array, "B M"]  # the weight of each stream; not normalised


class Rate(nnx.Variable):
    """A probability that may be traced: no trained parameter, and no part of the architecture either."""


class AttentionFusion(nnx.Module):
    """Encodes each stream, sums the encodings by learned scores (no softmax), classifies the sum.

    An encoder is dropout and 3 x (Linear -> ReLU); the scorer is one more of them over all encodings side by side.

    Args:
        dims: embedding width per stream. Their order does not matter: see `in_order`.
        hidden: width of every hidden layer.
        num_classes: number of labels.
        dropout: rate on the input of each encoder and of the scorer, in [0, 1); may be a traced scalar.
        modality_dropout: probability p of Eq. 2, per sample and modality; may be a traced scalar.
        rngs: draws the initial weights.
        keep_one: a draw that drops all that is present keeps one of it, uniformly. False is Eq. 2 to the letter.
        modality_of: stream -> the modality that it is dropped with; by default each is a modality of its own.
        stream_dropout: probability of dropping a single stream; one of each modality that is there stays.

    Raises:
        ValueError: `dims` is empty.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        hidden: int = HIDDEN,
        num_classes: int = 6,
        dropout: Num[ArrayLike, ""] = DROPOUT,
        modality_dropout: Num[ArrayLike, ""] = MODALITY_DROPOUT,
        *,
        rngs: nnx.Rngs,
        keep_one: bool = True,
        modality_of: Mapping[str, str] | None = None,
        stream_dropout: float = 0.0,
    ):
        if not dims:
            raise ValueError("dims must name at least one stream")
        ordered = in_order({name: modality_of[name] if modality_of else name for name in dims})
        self.streams = tuple(ordered)
        self.modalities = tuple(dict.fromkeys(ordered.values()))
        self.places = tuple(self.modalities.index(modality) for modality in ordered.values())  # of the streams' ones
        self.stream_dropout = stream_dropout
        self.hidden = hidden
        self.keep_one = keep_one
        self.dropout = Rate(jnp.asarray(dropout, jnp.float32))
        self.modality_dropout = Rate(jnp.asarray(modality_dropout, jnp.float32))

        count = len(self.streams)
        # Filled by `_draw_weights`. [out, in], as in torch: that is how XLA's CPU library computes their gradients.
        einsum = partial(nnx.Einsum, kernel_init=nnx.initializers.zeros, rngs=rngs)

        def linear(inputs: int, outputs: int) -> nnx.Einsum:
            return einsum("BD,HD->BH", (outputs, inputs), (outputs,))

        first = {name: einsum("BD,HD->HB", (hidden, dims[name]), (hidden, 1)) for name in self.streams}
        self.inputs = nnx.Dict(**first)
        # The second and third layers are equally wide for all streams: one product for all of them.
        self.encoders = nnx.List(einsum("MBD,MHD->MBH", (count, hidden, hidden), (count, 1, hidden)) for _ in range(2))
        self.scorer = nnx.List(linear(width, hidden) for width in (count * hidden, hidden, hidden))
        self.attention = linear(hidden, count)
        self.classifier = linear(hidden, num_classes)
        _draw_weights(self, rngs.params())

    def __call__(
        self,
        embeddings: Mapping[str, Float[Array | np.ndarray, "B _"]],
        present: Mapping[str, Bool[Array | np.ndarray, "B"]] | None = None,
        deterministic: bool = True,
        rngs: nnx.Rngs | None = None,
    ) -> FusionOutput:
        """Fuses one batch.

        Args:
            embeddings: per stream, each of its width. Rows of absent streams are never used (they may be NaN).
            present: per stream; None means that everything is present. Absent is the same zero vector that
                modality dropout puts in.
            deterministic: True at inference; False applies dropout and modality dropout.
            rngs: streams `modality` and `dropout`, or a default one; needed unless `deterministic`.
        """
        batch, count = embeddings[self.streams[0]].shape[0], len(self.streams)
        present = dict.fromkeys(self.streams, jnp.ones(batch, bool)) if present is None else present
        seen = jnp.stack([present[name] for name in self.streams], axis=-1)  # [B, M]
        if deterministic:
            keep = {}
        elif rngs is None:
            raise ValueError("deterministic=False draws random numbers: pass rngs")
        else:
            seen = self.drop(seen, rngs.modality())
            widths = {name: embeddings[name].shape[1] for name in self.streams}
            widths[SCORER] = count * self.hidden
            keep = dropout_masks(widths, batch, self.dropout[...], rngs.dropout())

        encoded = [
            self.inputs[name](jnp.where(seen[:, i, None], embeddings[name], 0) * keep.get(name, 1))  # [H, B]
            for i, name in enumerate(self.streams)
        ]
        x = jnp.moveaxis(jnp.stack(encoded), 1, 2)  # [M, B, H]
        for encoder in self.encoders:
            x = encoder(nnx.relu(x))
        x = nnx.relu(x)

        scores = jnp.moveaxis(x, 0, 1).reshape(batch, count * self.hidden) * keep.get(SCORER, 1)
        for layer in self.scorer:
            scores = nnx.relu(layer(scores))
        attention = self.attention(scores)  # [B, M]
        fused = jnp.einsum("MBH,BM->BH", x, attention)
        return FusionOutput(self.classifier(fused), attention)

    def drop(self, seen: Bool[Array, "B M"], key: PRNGKeyArray) -> Bool[Array, "B M"]:
        """The streams that are left: one draw takes all those of a modality."""
        places, modalities = jnp.array(self.places), jnp.arange(len(self.modalities))
        if self.stream_dropout and len(self.streams) > len(self.modalities):
            seen = drop_streams(seen, places, self.stream_dropout, jax.random.fold_in(key, 1))
        any_seen = jnp.any(seen[:, :, None] & (places[:, None] == modalities), axis=1)
        return seen & drop_modalities(any_seen, self.modality_dropout[...], key, self.keep_one)[:, places]


def drop_modalities(
    present: Bool[Array, "B M"], rate: Num[ArrayLike, ""], key: PRNGKeyArray, keep_one: bool = True
) -> Bool[Array, "B M"]:
    """Eq. 2: drops each modality of each sample with probability `rate`."""
    draw = jax.random.uniform(key, present.shape)
    keep = draw >= rate
    if keep_one:
        # Where all present ones' draws fell below the rate, the largest is a uniform choice; elsewhere it was kept.
        largest = jnp.argmax(jnp.where(present, draw, -1), axis=-1, keepdims=True)
        keep |= largest == jnp.arange(present.shape[-1])
    return present & keep


def drop_streams(
    present: Bool[Array, "B M"], places: Int[Array, "M"], rate: float, key: PRNGKeyArray
) -> Bool[Array, "B M"]:
    """Drops each stream of each sample with probability `rate`, but for one of each modality, by their `places`."""
    draw = jax.random.uniform(key, present.shape)
    rivals = jnp.where((places[:, None] == places) & present[:, None], draw[:, None], -1)  # [B, M, M]
    return present & ((draw >= rate) | (draw == rivals.max(axis=-1)))


def dropout_masks(
    widths: Mapping[str, int], batch: int, rate: Float[Array, ""], key: PRNGKeyArray
) -> dict[str, Float[Array, "B _"]]:
    """Factors of inverted dropout: 0, or 1 / (1 - rate).

    The random bits are a hash of each element's position: good enough for dropout, and computed where they are used.
    With those of `jax.random` a fold and epoch of the paper's widths takes 1.4 times as long on two CPU cores.
    """
    first, second = jax.random.key_data(key)[:2]  # of an `rbg` key the first half

    def mask(number: int, width: int) -> Float[Array, "B {width}"]:
        positions = jax.lax.broadcasted_iota(jnp.uint32, (batch, width), 0) * width
        positions += jax.lax.broadcasted_iota(jnp.uint32, (batch, width), 1)
        draws = _hash(_hash(positions ^ first) + second + jnp.uint32(number))
        return jnp.where(draws >> 8 >= rate * 2**24, 1 / (1 - rate), 0)

    return {name: mask(number, width) for number, (name, width) in enumerate(widths.items())}


def _hash(x: UInt32[Array, "B D"]) -> UInt32[Array, "B D"]:
    """Each bit of the result depends on all of `x` (Wellons' lowbias32)."""
    x = (x ^ x >> 16) * jnp.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * jnp.uint32(0x846CA68B)
    return x ^ x >> 16


def _draw_weights(model: AttentionFusion, key: PRNGKeyArray) -> None:
    """torch.nn.Linear's initialisation, the baseline's: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), biases too.

    All in one draw: inside the fold trainer, XLA takes 10 s to compile one draw per tensor.
    """
    layers: list[Any] = [layer for _, layer in nnx.iter_modules(model) if hasattr(layer, "kernel")]
    params = [(param, layer.kernel.size // layer.bias.size) for layer in layers for param in (layer.kernel, layer.bias)]
    ends = np.cumsum([param.size for param, _ in params])
    draws = jnp.split(jax.random.uniform(key, (ends[-1],), minval=-1), ends[:-1])
    for (param, fan_in), draw in zip(params, draws, strict=True):
        param[...] = draw.reshape(param.shape) * fan_in**-0.5
