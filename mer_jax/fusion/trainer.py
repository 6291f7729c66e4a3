"""Trains every fold, seed and setting at once: one compiled program for all epochs, rounds and grids.

Trials share the clips of a `TrainingSet`, which stays on the device, and differ in which of them they train on and in
traced hyperparameters, so that only new shapes cause a compilation.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mer_jax.fusion.adam import Moments, adam
from mer_jax.fusion.data import TrainingSet, gather
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Trials
from mer_jax.metrics import weighted_f1
from mer_jax.models.fusion import AttentionFusion
from mer_jax.runtime.array_types import Array, Bool, Float, Int
from mer_jax.runtime.devices import map_trials, map_trials_on_cores
from mer_jax.runtime.hosts import over_hosts
from mer_jax.runtime.profiling import named, on_devices

VALIDATION_BATCH = 256  # clips


class Network(NamedTuple):
    """One network of each trial."""

    params: nnx.State  # leaves [R, ...]
    validation_logits: jax.Array  # [R, V, C], rows as in `Trials.validation`, 0 where that is padding


class Fitted(NamedTuple):
    """What each trial came to, and how it got there."""

    best: Network  # of the first epoch of the best validation WAF, which the held-out clips chose
    final: Network  # which they did not: of the last epoch, or the mean of the weights of the last half of all epochs
    best_epoch: jax.Array  # [R] int32, from 0
    train_loss: jax.Array  # [R, E], weighted, mean over the clips of the epoch
    validation_waf: jax.Array  # [R, E], in [0, 1]


class Progress(NamedTuple):
    """A trial between two epochs."""

    params: nnx.State
    moments: Moments
    mean_params: Any  # of the epochs that count for the average so far; () where none is taken
    best: Network
    best_epoch: jax.Array  # int32
    best_waf: jax.Array


class FoldTrainer:
    """Trains trials of one architecture; calls with equal shapes share one compilation.

    Of `settings`, `hidden`, `keep_one`, `stream_dropout`, `batch_size`, `epochs`, `network` and `over_devices` count,
    which all trials share. dims, num_classes, modality_of: see `AttentionFusion`. devices: default all local ones.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        settings: FusionSettings,
        devices: Sequence[jax.Device] | None = None,
        modality_of: Mapping[str, str] | None = None,
    ):
        self.dims = dict(dims)
        self.modality_of = modality_of
        self.num_classes = num_classes
        self.settings = settings
        self.compilations = 0
        devices = jax.local_devices() if devices is None else devices
        alone_on_cpu = len(devices) == 1 and devices[0].platform == "cpu"
        over_devices = partial(map_trials, devices=devices, over_devices=settings.over_devices)
        self._train = (map_trials_on_cores if alone_on_cpu else over_devices)(self.train_one)

    def train(self, training_set: TrainingSet, trials: Trials) -> Fitted:
        """Trains all trials from scratch, spread over all hosts' devices.

        The result of one depends neither on its company nor on padding.
        """
        longest = np.max(np.sum(np.asarray(trials.train) >= 0, axis=1))
        with named(f"fusion, {len(trials.fold)} trials"):
            return on_devices(over_hosts(self._train), trials, training_set, longest.astype(np.int32))

    def train_one(self, trial: Trials, training_set: TrainingSet, longest: jax.Array) -> Fitted:
        """One training from scratch, the program that `train` compiles and maps over trials.

        All without the leading axis R. longest: int32, the largest number of training clips in any trial.
        """
        self.compilations += 1  # Python runs only while tracing
        return Training(self, trial, training_set, longest).run()


class Training:
    """One trial's training while it is traced: arguments as of `FoldTrainer.train_one`."""

    def __init__(self, trainer: FoldTrainer, trial: Trials, training_set: TrainingSet, longest: jax.Array):
        self.num_classes = trainer.num_classes
        self.settings = trainer.settings
        self.trial = trial
        self.training_set = training_set
        self.longest = longest
        self.clips = jnp.sum(trial.train >= 0)
        init_key, self.shuffle_key, self.step_key = jax.random.split(trial.key, 3)
        model = AttentionFusion(
            trainer.dims,
            self.settings.hidden,
            self.num_classes,
            trial.hyperparameters.dropout,
            trial.hyperparameters.modality_dropout,
            rngs=nnx.Rngs(init_key),
            keep_one=self.settings.keep_one,
            modality_of=trainer.modality_of,
            stream_dropout=self.settings.stream_dropout,
        )
        self.graph, self.params, *self.rates = nnx.split(model, nnx.Param, ...)

    def run(self) -> Fitted:
        """All epochs."""
        nothing = Network(self.params, jnp.zeros((len(self.trial.validation), self.num_classes)))
        mean_params = self.params if self.settings.network == "average" else ()
        moments = Moments.zeros(self.params)
        start = Progress(self.params, moments, mean_params, nothing, jnp.int32(0), jnp.float32(-1))
        end, (losses, wafs) = jax.lax.scan(self.epoch, start, jnp.arange(self.settings.epochs))
        final_params = end.mean_params or end.params
        return Fitted(end.best, Network(final_params, self.validate(final_params)[0]), end.best_epoch, losses, wafs)

    def epoch(self, progress: Progress, number: Int[Array, ""]) -> tuple[Progress, Any]:
        """Trains on every clip once, validates, keeps what is best and adds to the average."""
        params, moments, mean_params, *best = progress
        order = _pad(_shuffle(self.trial.train, jax.random.fold_in(self.shuffle_key, number)), self.settings.batch_size)
        key = jax.random.fold_in(self.step_key, number)
        # A dynamic number of steps: room for pseudo-labelled clips costs nothing until it is used.
        steps = -(-self.longest // self.settings.batch_size)
        params, moments, total = jax.lax.fori_loop(
            0, steps, lambda i, carry: self.step(i, carry, order, key), (params, moments, 0.0)
        )
        logits, waf = self.validate(params)
        better, validated = waf > progress.best_waf, [Network(params, logits), number, waf]
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), validated, best)
        share = 1 / jnp.maximum(number - self.settings.epochs // 2 + 1, 1)  # starts anew until the last half
        if mean_params:
            mean_params = jax.tree.map(lambda mean, new: mean + (new - mean) * share, mean_params, params)
        return Progress(params, moments, mean_params, *best), (total / self.clips, waf)

    def step(
        self, i: Int[Array, ""], carry: tuple[Any, Moments, Any], order: Int[Array, " T"], key: jax.Array
    ) -> tuple[Any, Moments, Any]:
        """One batch: the gradient and what it does to the parameters."""
        params, moments, total = carry
        size = self.settings.batch_size
        start = i * size
        index = jax.lax.dynamic_slice_in_dim(order, start, size)
        real = start + jnp.arange(size) < self.clips
        loss, grads = jax.value_and_grad(self.loss)(params, index, real, jax.random.fold_in(key, i))
        hyper = self.trial.hyperparameters
        params, moments = adam(grads, params, moments, hyper.learning_rate, hyper.l2, active=start < self.clips)
        return params, moments, total + loss * jnp.sum(real)

    def loss(self, params: Any, index: Int[Array, " B"], real: Bool[Array, " B"], key: jax.Array) -> Float[Array, ""]:
        """Mean cross-entropy of the batch's real clips, each times its weight."""
        logits = self.logits(params, index, self.trial.sees, deterministic=False, rngs=nnx.Rngs(key))
        targets = jax.nn.one_hot(self.training_set.labels[index], self.num_classes)
        targets = optax.smooth_labels(targets, self.trial.hyperparameters.label_smoothing)
        weighted = optax.softmax_cross_entropy(logits, targets) * self.training_set.weights[index]
        return jnp.sum(weighted * real) / jnp.maximum(jnp.sum(real), 1)

    def logits(
        self, params: Any, index: Int[Array, " B"], sees: Mapping[str, Bool[Array, ""]], **options: Any
    ) -> Float[Array, "B C"]:
        """Of the clips at `index`, of which it `sees` some streams."""
        embeddings, present = gather(self.training_set, index, self.trial.fold, sees)
        return nnx.merge(self.graph, params, *self.rates)(embeddings, present, **options).logits

    def validate(self, params: Any) -> tuple[Float[Array, "V C"], Float[Array, ""]]:
        """Logits of the held-out clips, 0 where that is padding, and their WAF, by what they show."""
        validation = self.trial.validation
        size = min(VALIDATION_BATCH, len(validation))
        batches = _pad(validation, size).reshape(-1, size)
        logits = jax.lax.map(lambda index: self.logits(params, index, self.trial.shown), batches)
        logits = logits.reshape(-1, self.num_classes)[: len(validation)]
        real = validation >= 0
        waf = weighted_f1(self.training_set.labels[validation], logits.argmax(-1), self.num_classes, real)
        return jnp.where(real[:, None], logits, 0), waf


def _shuffle(index: jax.Array, key: jax.Array) -> jax.Array:
    """The valid entries in random order, then the padding, whose amount does not change the order."""
    draws = jax.random.bits(key, index.shape)
    return jax.lax.sort((index < 0, draws, index), num_keys=2)[2]


def _pad(index: jax.Array, multiple: int) -> jax.Array:
    return jnp.pad(index, (0, -len(index) % multiple), constant_values=-1)
