"""Trains every fold, seed and setting at once: one compiled program for all epochs, rounds and grids.

A *run* is one training of one `AttentionFusion`. Runs share the clips of a `Pool`, which stays on the device,
and differ in which of them they train on and in traced hyperparameters, so that only new shapes cause a
compilation.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mer_jax.fusion.trials import Pool, Runs, gather
from mer_jax.metrics import weighted_f1
from mer_jax.models.fusion import AttentionFusion
from mer_jax.runtime.devices import map_runs, map_runs_on_cores

_VALIDATION_BATCH = 256


class Fitted(NamedTuple):
    """Each run at its first epoch of the best validation WAF, and how it got there."""

    params: nnx.State  # leaves [R, ...]
    best_epoch: jax.Array  # [R] int32, from 0
    validation_logits: jax.Array  # [R, V, C], rows as in `Runs.validation`, 0 where that is padding
    train_loss: jax.Array  # [R, E], mean over the clips of the epoch
    validation_waf: jax.Array  # [R, E], in [0, 1]


class FoldTrainer:
    """Trains runs of one architecture; calls with equal shapes share one compilation.

    Args:
      dims, num_classes, hidden, keep_one: see `AttentionFusion`.
      batch_size: clips per step; the last step of an epoch takes what is left.
      epochs: how often a run sees its clips.
      devices: default all local ones.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        hidden: int = 128,
        batch_size: int = 64,
        epochs: int = 30,
        keep_one: bool = True,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.dims = dict(dims)
        self.num_classes = num_classes
        self.hidden = hidden
        self.batch_size = batch_size
        self.epochs = epochs
        self.keep_one = keep_one
        self.compilations = 0
        devices = jax.local_devices() if devices is None else devices
        alone_on_cpu = len(devices) == 1 and devices[0].platform == "cpu"
        self._train = map_runs_on_cores(self.train_one) if alone_on_cpu else map_runs(self.train_one, devices)

    def train(self, pool: Pool, runs: Runs) -> Fitted:
        """Trains all runs from scratch. The result of a run depends neither on its company nor on padding."""
        longest = np.max(np.sum(np.asarray(runs.train) >= 0, axis=1))
        return self._train(runs, pool, longest.astype(np.int32))

    def train_one(self, run: Runs, pool: Pool, longest: jax.Array) -> Fitted:
        """One training from scratch, the program that `train` compiles and maps over runs.

        Args:
            run: without the leading axis R.
            pool: the clips that all runs share.
            longest: int32 scalar, the largest number of training clips in any run.

        Returns:
            `Fitted` without the leading axis R.
        """
        self.compilations += 1  # Python runs only while tracing
        init_key, shuffle_key, step_key = jax.random.split(run.key, 3)
        hyper = run.hyperparameters
        graph, params, *rates = nnx.split(
            AttentionFusion(
                self.dims,
                self.hidden,
                self.num_classes,
                hyper.dropout,
                hyper.modality_dropout,
                rngs=nnx.Rngs(init_key),
                keep_one=self.keep_one,
            ),
            nnx.Param,
            ...,
        )
        clips = jnp.sum(run.train >= 0)

        def logits_of(params, index, **options):
            embeddings, present = gather(pool, index, run.fold, run.sees)
            return nnx.merge(graph, params, *rates)(embeddings, present, **options).logits

        def batch_loss(params, index, real, key):
            logits = logits_of(params, index, deterministic=False, rngs=nnx.Rngs(key))
            targets = jax.nn.one_hot(pool.labels[index], self.num_classes)
            targets = optax.smooth_labels(targets, hyper.label_smoothing)
            return jnp.sum(optax.softmax_cross_entropy(logits, targets) * real) / jnp.maximum(jnp.sum(real), 1)

        def step(i, carry, order, key):
            params, moments, total = carry
            start = i * self.batch_size
            index = jax.lax.dynamic_slice_in_dim(order, start, self.batch_size)
            real = start + jnp.arange(self.batch_size) < clips
            loss, grads = jax.value_and_grad(batch_loss)(params, index, real, jax.random.fold_in(key, i))
            params, moments = adam(grads, params, moments, hyper.learning_rate, hyper.l2, active=start < clips)
            return params, moments, total + loss * jnp.sum(real)

        def validate(params):
            size = min(_VALIDATION_BATCH, len(run.validation))
            batches = _pad(run.validation, size).reshape(-1, size)
            logits = jax.lax.map(lambda index: logits_of(params, index), batches)
            logits = logits.reshape(-1, self.num_classes)[: len(run.validation)]
            real = run.validation >= 0
            waf = weighted_f1(pool.labels[run.validation], logits.argmax(-1), self.num_classes, real)
            return jnp.where(real[:, None], logits, 0), waf

        def epoch(carry, number):
            params, moments, best = carry
            order = _pad(_shuffle(run.train, jax.random.fold_in(shuffle_key, number)), self.batch_size)
            key = jax.random.fold_in(step_key, number)
            # A dynamic number of steps: room for pseudo-labelled clips costs nothing until it is used.
            params, moments, total = jax.lax.fori_loop(
                0, -(-longest // self.batch_size), lambda i, c: step(i, c, order, key), (params, moments, 0.0)
            )
            logits, waf = validate(params)
            better = waf > best["waf"]
            current = {"params": params, "logits": logits, "waf": waf, "epoch": number}
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), current, best)
            return (params, moments, best), (total / clips, waf)

        best = {
            "params": params,
            "logits": jnp.zeros((len(run.validation), self.num_classes)),
            "waf": jnp.float32(-1),
            "epoch": jnp.int32(0),
        }
        start = (params, Moments.zeros(params), best)
        (_, _, best), (losses, wafs) = jax.lax.scan(epoch, start, jnp.arange(self.epochs))
        return Fitted(best["params"], best["epoch"], best["logits"], losses, wafs)


class Moments(NamedTuple):
    """The state of `adam`."""

    steps: jax.Array  # taken so far
    first: nnx.State
    second: nnx.State

    @classmethod
    def zeros(cls, params: nnx.State) -> "Moments":
        zeros = jax.tree.map(jnp.zeros_like, params)
        return cls(jnp.int32(0), zeros, zeros)


def adam(
    grads: nnx.State,
    params: nnx.State,
    moments: Moments,
    learning_rate: jax.Array | float,
    l2: jax.Array | float,
    active: jax.Array | bool = True,
) -> tuple[nnx.State, Moments]:
    """One step of torch's Adam: `l2` times the parameters joins the gradient. Nothing moves if not `active`.

    Equals `optax.chain(add_decayed_weights, adam)`. Runs that are done with their epoch are held still
    through the decay rates, because a select on the results makes XLA copy every parameter and moment at
    every step.
    """
    b1, b2, eps = 0.9, 0.999, 1e-8
    keep1, keep2 = jnp.where(active, b1, 1.0), jnp.where(active, b2, 1.0)
    take1, take2 = jnp.where(active, 1 - b1, 0.0), jnp.where(active, 1 - b2, 0.0)
    steps = moments.steps + active
    rate = jnp.where(active, learning_rate, 0.0) / (1 - b1 ** jnp.maximum(steps, 1))
    unbias2 = 1 / (1 - b2 ** jnp.maximum(steps, 1))

    grads = jax.tree.map(lambda g, p: g + l2 * p, grads, params)
    first = jax.tree.map(lambda m, g: keep1 * m + take1 * g, moments.first, grads)
    second = jax.tree.map(lambda v, g: keep2 * v + take2 * jnp.square(g), moments.second, grads)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * unbias2) + eps), params, first, second)
    return params, Moments(steps, first, second)


def _shuffle(index: jax.Array, key: jax.Array) -> jax.Array:
    """The valid entries in random order, then the padding, whose amount does not change the order."""
    draws = jax.random.bits(key, index.shape)
    return jax.lax.sort((index < 0, draws, index), num_keys=2)[2]


def _pad(index: jax.Array, multiple: int) -> jax.Array:
    return jnp.pad(index, (0, -len(index) % multiple), constant_values=-1)
