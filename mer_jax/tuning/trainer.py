"""Sets of prompts trained side by side, one per fold, none of which sees its own validation clips.

A batch holds as many clips of every fold; each set of prompts trains on those of the other folds. So a clip is
decoded and sent once for all sets, and nothing is computed in vain.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mer_jax.checkpoints.pytrees import load_trained, remove_trained, save_trained
from mer_jax.metrics import weighted_f1
from mer_jax.models.emovclip import EmoVCLIP, Prompt, prompt_sets
from mer_jax.runtime.devices import map_trials
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.hosts import in_step, is_first_host, over_hosts
from mer_jax.runtime.kept import Damaged, make_again
from mer_jax.runtime.profiling import on_devices, step
from mer_jax.runtime.random import named_key
from mer_jax.runtime.scalars import Scalars
from mer_jax.tuning.batches import Batch, FoldBatches
from mer_jax.tuning.tune_settings import TuneSettings


class TuneState(NamedTuple):
    """What an epoch leaves behind; leaves [R, ...] over the sets of prompts."""

    prompts: Any
    optimizer: Any
    loss: jax.Array  # [R, epochs]
    waf: jax.Array  # [R, epochs]


def micro_batches(clips: Any, size: int) -> Any:
    """Leaves [N, ...] -> [parts, size, ...]; zeros, among them `Batch.real`, fill up the last part."""

    def split(x: jax.Array) -> jax.Array:
        filled = jnp.pad(x, [(0, -len(x) % size), *[(0, 0)] * (x.ndim - 1)])
        return filled.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(split, clips)


class Tuner:
    """Trains R sets of prompts side by side on the backbone of `model`."""

    def __init__(self, model: EmoVCLIP, settings: TuneSettings, num_folds: int, seed: int, steps_per_epoch: int):
        self.settings = settings
        self.seed = seed
        folds = np.arange(num_folds)
        if settings.mode == "per_fold":
            self.train_folds = np.array([np.delete(folds, fold) for fold in folds])  # [R, G - 1]
            self.validation_folds = folds[:, None]  # [R, 1]
        else:  # one set, which has seen every clip that it is validated on
            self.train_folds = self.validation_folds = folds[None]
        self.graphdef: Any
        self.backbone: Any
        self.graphdef, _, self.backbone = nnx.split(model, Prompt, ...)  # type: ignore[misc]
        warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
        schedule = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, max(total, warmup + 1))
        self.optimizer = optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=settings.weight_decay)
        # Micro-batches are for networks whose activations are large: there, sets that share a device take turns.
        laid_out = partial(map_trials, over_devices=settings.over_devices)
        self.step = laid_out(self.training_step, side_by_side=1 if settings.micro_batch else None)
        self.score = laid_out(self.scoring_step)

    def init(self, build: Callable[[jax.Array], EmoVCLIP]) -> TuneState:
        """Fresh prompts for every set."""
        sets = len(self.train_folds)
        prompts = prompt_sets(build(named_key(self.seed, "prompts", number)) for number in range(sets))
        curve = jnp.zeros((sets, self.settings.epochs))
        return TuneState(prompts, jax.vmap(self.optimizer.init)(prompts), curve, curve)

    def _merge(self, prompts: Any, backbone: Any) -> EmoVCLIP:
        return nnx.merge(self.graphdef, prompts, backbone)

    def training_step(self, prompt_set: tuple, batch: Batch, flips: jax.Array, backbone: Any) -> tuple:
        """One set's prompts and optimizer state after an update, and the mean loss before it; `step` is compiled.

        Args:
            prompt_set: prompts, their optimizer state, and the folds to train on [G - 1].
            batch: as many clips of every fold, leaves [G, b, ...].
            flips: [G, b] bool, clips that are mirrored.
        """
        prompts, state, folds = prompt_set
        clips = jax.tree.map(lambda x: x[folds].reshape(-1, *x.shape[2:]), (batch, flips))  # [(G - 1) b, ...]
        count = jnp.maximum(clips[0].real.sum(), 1)

        def loss_of(prompts: Any, class_features: jax.Array, clips: tuple[Batch, jax.Array]) -> jax.Array:
            """The clips' share of the step's loss."""
            (pixels, mask, labels, real), flips = clips
            pixels = jnp.where(flips.reshape(-1, 1, 1, 1, 1), pixels[:, :, :, ::-1], pixels)
            model = self._merge(prompts, backbone)
            logits = model.logits(model.encode_video(pixels, mask), class_features)
            targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), self.settings.label_smoothing)
            return (optax.softmax_cross_entropy(logits, targets) * real).sum() / count

        def add(total: Any, clips: Any) -> tuple[Any, None]:
            part = jax.value_and_grad(loss_of, argnums=(0, 1))(prompts, class_features, clips)
            return jax.tree.map(jnp.add, total, part), None

        # The class texts are the same for all clips: forward once, and backward once with the sum of their gradients.
        class_features, backward = jax.vjp(lambda prompts: self._merge(prompts, backbone).class_features(), prompts)
        nothing = jax.tree.map(jnp.zeros_like, (jnp.float32(0), (prompts, class_features)))
        parts = micro_batches(clips, self.settings.micro_batch or len(clips[0].real))
        (loss, (of_video, of_classes)), _ = jax.lax.scan(add, nothing, parts)
        gradients = jax.tree.map(jnp.add, of_video, *backward(of_classes))
        updates, state = self.optimizer.update(gradients, state, prompts)
        return optax.apply_updates(prompts, updates), state, loss

    def scoring_step(self, prompt_set: tuple, batch: Batch, backbone: Any) -> jax.Array:
        """Logits [v, b, C] of one set, (prompts, folds [v]), on the clips it is validated on; `score` is compiled."""
        prompts, folds = prompt_set
        pixels, mask = batch.pixels[folds], batch.mask[folds]
        logits = self._merge(prompts, backbone)(pixels.reshape(-1, *pixels.shape[2:]), mask.reshape(-1, mask.shape[-1]))
        return logits.reshape(*pixels.shape[:2], -1)

    def epoch(self, state: TuneState, number: int, training: Iterator[Batch], validation: Iterator[Batch]) -> TuneState:
        """Trains on every clip once and scores the held-out ones, which have no say in what is kept.

        Of several hosts each trains its part of the sets.
        """
        own_epoch = partial(self._epoch, number=number, training=training, validation=validation)
        return over_hosts(own_epoch)((state, self.train_folds, self.validation_folds))

    def _epoch(self, sets: tuple, number: int, training: Iterator[Batch], validation: Iterator[Batch]) -> TuneState:
        """`epoch` of some sets: their state, the folds that each trains on and those that it is validated on."""
        state, train_folds, folds = sets
        prompts, optimizer, losses = state.prompts, state.optimizer, []
        key = named_key(self.seed, "flip", number)
        for done, batch in enumerate(training):
            flips = jax.random.bernoulli(named_key(key, done), shape=batch.labels.shape)
            arguments = (prompts, optimizer, train_folds), batch, flips, self.backbone
            prompts, optimizer, loss = step("prompts", done, self.step, *arguments)
            losses.append(loss)
        scored = [
            (on_devices(self.score, (prompts, folds), batch, self.backbone), batch.labels[folds], batch.real[folds])
            for batch in validation
        ]
        logits, labels, real = (jnp.concatenate(parts, axis=2) for parts in zip(*scored, strict=True))  # [R, v, N, ...]
        flat = [x.reshape(len(x), -1) for x in (labels, logits.argmax(-1), real)]
        waf = jax.vmap(lambda y, z, real: weighted_f1(y, z, logits.shape[-1], real))(*flat)
        loss, wafs = state.loss.at[:, number].set(jnp.stack(losses).mean(0)), state.waf.at[:, number].set(waf)
        return TuneState(prompts, optimizer, loss, wafs)


def tune(
    build: Callable[[jax.Array], EmoVCLIP],
    batches: FoldBatches,
    settings: TuneSettings,
    seed: int,
    folder: Path,
    made_of: str = "",
    advance: Callable[[int], object] = lambda count: None,
    curves: Scalars | None = None,
) -> TuneState:
    """Trains the prompts; a run that was interrupted continues after its last whole epoch, bit for bit.

    Args:
        build: key -> the network with fresh prompts.
        folder: of the checkpoints, one per epoch, of which the last is kept. One that is damaged, or made by other
            settings or clips, is named, and training starts anew.
        made_of: names all that the prompts depend on.
        advance: called with epochs done.
        curves: get loss and WAF of each epoch, means over the sets; first of those that were done before.
    """
    curves = curves or Scalars()
    tuner = Tuner(build(named_key(seed, "prompts")), settings, len(batches.folds), seed, batches.steps)
    fresh = tuner.init(build)
    state, start = in_step("prompts", lambda: last_epoch(folder, fresh, made_of), found=itemgetter(1))
    if start == 0 and is_first_host():  # what is damaged
        shutil.rmtree(folder, ignore_errors=True)
    advance(start)
    curves.write("prompts/loss", state.loss[:, :start])
    curves.write("prompts/WAF", state.waf[:, :start])
    for epoch in range(start, settings.epochs):
        state = tuner.epoch(state, epoch, batches.training(epoch), batches.validation())
        numbers = [np.asarray(x, np.float32) for x in (state.loss[:, epoch], *jax.tree.leaves(state.prompts))]
        finite = np.all([np.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in numbers], axis=0)  # [R]
        if not finite.all():
            where = f"set {np.argmin(finite) + 1}, epoch {epoch + 1}"
            raise DataError(f"the tuning of prompts has diverged ({where}): lower tune.learning_rate")
        save_trained(folder / str(epoch), state, made_of)
        remove_trained(folder / str(epoch - 1))
        curves.write("prompts/loss", state.loss[:, epoch : epoch + 1], epoch)
        curves.write("prompts/WAF", state.waf[:, epoch : epoch + 1], epoch)
        advance(1)
    return state


def last_epoch(folder: Path, fresh: TuneState, made_of: str) -> tuple[TuneState, int]:
    """What the last epoch whose checkpoint is in `folder` left behind, or what is `fresh`; and the next epoch."""
    epochs = [int(path.name) for path in folder.glob("*") if path.is_dir() and path.name.isdigit()]
    if not epochs:
        return fresh, 0
    try:
        return load_trained(folder / str(max(epochs)), fresh, made_of), max(epochs) + 1
    except Damaged as reason:
        make_again(reason)
        return fresh, 0
