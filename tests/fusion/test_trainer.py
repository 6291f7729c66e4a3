import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mer_jax.defaults import MODALITIES
from mer_jax.fusion.data import Embeddings, fill_slots, make_training_set
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trainer import FoldTrainer
from mer_jax.fusion.trials import Setting, make_trials
from mer_jax.metrics import weighted_f1
from mer_jax.models.fusion import AttentionFusion
from mer_jax.runtime.random import named_key

DIMS = {"speech": 12, "text": 9}
CLASSES = 3
KEY = named_key(0, "test")
SETTINGS = FusionSettings(hidden=16, batch_size=16, epochs=1)


def toy(clips=90, seed=0):
    """Clips whose classes have different means in both modalities."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % CLASSES
    centres = {name: np.random.default_rng(7).normal(size=(CLASSES, dim)) for name, dim in DIMS.items()}
    features = {
        name: (centres[name][labels] + 0.5 * rng.normal(size=(clips, dim))).astype(np.float32)
        for name, dim in DIMS.items()
    }
    present = {name: rng.random(clips) < 0.9 for name in DIMS}
    return features, present, labels


@pytest.fixture(scope="module")
def trainer():
    return FoldTrainer(DIMS, CLASSES, replace(SETTINGS, epochs=12))


@pytest.fixture(scope="module")
def fast():
    return setting(learning_rate=1e-2)


def setting(modalities=MODALITIES, seed=0, **changes):
    return Setting.of("own", SETTINGS, modalities, seed, **changes)


def new_model(key):
    return AttentionFusion(DIMS, 16, CLASSES, rngs=nnx.Rngs(key))


def assert_trees_close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_learns_and_keeps_the_first_best_epoch(trainer, fast):
    features, present, labels = toy()
    fold_of = make_folds(labels, 3, seed=0)
    training_set, trials = make_training_set(features, present, labels), make_trials(fold_of, KEY, [fast])
    fitted = trainer.train(training_set, trials)
    waf = np.asarray(fitted.validation_waf)
    assert (waf.max(axis=1) > 0.9).all()
    assert (fitted.train_loss[:, -1] < 0.5 * fitted.train_loss[:, 0]).all()
    np.testing.assert_array_equal(fitted.best_epoch, waf.argmax(axis=1))

    # The kept logits are those of the kept parameters, and score what the curve says.
    for trial in range(3):
        index = trials.validation[trial][trials.validation[trial] >= 0]
        model = new_model(0)
        nnx.update(model, jax.tree.map(lambda x, trial=trial: x[trial], fitted.best.params))
        logits = model({k: x[index] for k, x in features.items()}, {k: x[index] for k, x in present.items()}).logits
        np.testing.assert_allclose(fitted.best.validation_logits[trial, : len(index)], logits, atol=1e-5)
        np.testing.assert_allclose(weighted_f1(labels[index], logits.argmax(-1), CLASSES), waf[trial].max(), atol=1e-6)


def params_after(epochs, network, trials, training_set):
    settings = replace(SETTINGS, epochs=epochs, network=network)
    return FoldTrainer(DIMS, CLASSES, settings).train(training_set, trials)


@pytest.mark.parametrize(("epochs", "averaged"), [(1, [1]), (3, [2, 3]), (4, [3, 4])])
def test_the_final_network_is_the_last_or_the_mean_of_the_last_half(fast, epochs, averaged):
    features, present, labels = toy(30)
    training_set, trials = make_training_set(features, present, labels), make_trials(labels % 2, KEY, [fast])
    last, average = (params_after(epochs, network, trials, training_set) for network in ("last", "average"))
    shorter = [params_after(number, "last", trials, training_set).final.params for number in averaged]
    assert_trees_close(last.final.params, shorter[-1])
    assert_trees_close(average.final.params, jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *shorter), atol=1e-6)
    assert_trees_close(average.best, last.best)

    # The final logits are those of the final parameters.
    for fitted in (last, average):
        index = np.asarray(trials.validation[0])
        model = new_model(0)
        nnx.update(model, jax.tree.map(lambda x: x[0], fitted.final.params))
        logits = model({k: x[index] for k, x in features.items()}, {k: x[index] for k, x in present.items()}).logits
        np.testing.assert_allclose(fitted.final.validation_logits[0], logits, atol=1e-5)


def test_a_weight_scales_what_a_clip_adds_to_the_loss():
    """One batch: clips of weight 0 leave the mean of the others, divided by all."""
    features, present, labels = toy(12)
    plain = setting(dropout=0.0, modality_dropout=0.0)
    trials = make_trials(labels % 2, KEY, [plain])
    training_set = make_training_set(features, present, labels)
    weights = np.where(labels == 0, 0.0, 1.0).astype(np.float32)

    def first_loss(weights):
        own = training_set._replace(weights=jnp.asarray(weights))
        return float(FoldTrainer(DIMS, CLASSES, SETTINGS).train(own, trials).train_loss[0, 0])

    parts = [first_loss(weights), first_loss(1 - weights)]
    np.testing.assert_allclose(first_loss(np.ones(12)), sum(parts), rtol=1e-5)
    np.testing.assert_allclose(first_loss(0.25 * weights), 0.25 * parts[0], rtol=1e-5)


def test_one_compilation_serves_all_rounds_and_padding_changes_nothing(fast):
    features, present, labels = toy()
    fold_of = make_folds(labels[:70], 3, seed=0)

    def part(*clips):
        clips = slice(*clips)
        rows = [{name: x[clips] for name, x in whole.items()} for whole in (features, present)]
        return *rows, labels[clips]

    def train(trainer, room, filled):
        features, present, labels = part(70, 70 + filled)
        training_set = fill_slots(make_training_set(*part(70), slots=room), room, Embeddings(features, present), labels)
        extra = [[np.arange(70, 70 + filled)]]
        return trainer.train(training_set, make_trials(fold_of, KEY, [fast], room=room, extra=extra))

    rounds, exact = (FoldTrainer(DIMS, CLASSES, replace(SETTINGS, epochs=3)) for _ in range(2))
    none, some, _ = (train(rounds, 20, filled) for filled in (0, 5, 20))
    assert rounds.compilations == 1
    assert_trees_close(some, train(exact, 5, 5))
    assert np.abs(some.train_loss - none.train_loss).max() > 1e-3


def test_all_epochs_are_one_program_that_never_asks_the_host(trainer, fast):
    features, present, labels = toy()
    trials = make_trials(make_folds(labels, 3, seed=0), KEY, [fast])
    trial = jax.tree.map(lambda x: x[0], trials)
    program = str(jax.make_jaxpr(trainer.train_one)(trial, make_training_set(features, present, labels), jnp.int32(60)))
    assert f"length={trainer.settings.epochs}" in program  # the scan over epochs
    assert not re.search("callback|infeed|outfeed|device_put", program)


def test_company_changes_nothing_and_settings_are_traced(trainer, fast):
    features, present, labels = toy()
    fold_of = make_folds(labels, 3, seed=0)
    training_set = make_training_set(features, present, labels)
    other = setting(("text",), learning_rate=1e-3, l2=1e-2, dropout=0.1, modality_dropout=0.6, label_smoothing=0.2)
    together = trainer.train(
        training_set, make_trials(fold_of, KEY, [fast, replace(fast, seed=1), other, replace(other, seed=1)])
    )
    alone = trainer.train(training_set, make_trials(fold_of, KEY, [replace(other, seed=1)]))
    assert_trees_close(jax.tree.map(lambda x: x[-3:], together), alone, atol=1e-5)
    assert np.abs(together.train_loss[:3] - together.train_loss[3:6]).max() > 1e-3  # seeds differ


@pytest.mark.parametrize(("seen", "hidden"), [("text", "speech"), ("speech", "text")])
def test_hidden_modality_has_no_influence_and_the_other_is_learned_from(trainer, fast, seen, hidden):
    features, present, labels = toy()
    trials = make_trials(make_folds(labels, 3, seed=0), KEY, [replace(fast, modalities=(seen,))])
    with_both = trainer.train(make_training_set(features, present, labels), trials)
    spoiled = {**features, hidden: np.full_like(features[hidden], np.nan)}
    assert_trees_close(trainer.train(make_training_set(spoiled, present, labels), trials), with_both)
    assert (np.asarray(with_both.validation_waf).max(axis=1) > 0.8).all()  # of some clips it is absent


def test_each_fold_reads_its_own_features(fast):
    features, present, labels = toy()
    trials = make_trials(make_folds(labels, 3, seed=0), KEY, [fast])
    trainer = FoldTrainer(DIMS, CLASSES, replace(SETTINGS, epochs=2))

    def train(scales):
        own = {**features, "text": np.stack([features["text"] * scale for scale in scales])}
        return trainer.train(make_training_set(own, present, labels), trials)

    shared, own = train([1, 1, 1]), train([1, 0, 1])
    for trial in (0, 2):
        assert_trees_close(*(jax.tree.map(lambda x, trial=trial: x[trial], fitted) for fitted in (own, shared)))
    assert np.abs(own.train_loss[1] - shared.train_loss[1]).max() > 1e-3


def test_first_step_is_plain_adam_on_the_mean_loss():
    features, present, labels = toy(20)
    plain = setting(learning_rate=1e-2, l2=1e-3, dropout=0.0, modality_dropout=0.0, label_smoothing=0.1)
    trials = make_trials(make_folds(labels, 2, seed=0), KEY, [plain])
    fitted = FoldTrainer(DIMS, CLASSES, FusionSettings(hidden=16, epochs=1)).train(
        make_training_set(features, present, labels), trials
    )

    index = trials.train[0][trials.train[0] >= 0]
    model = new_model(jax.random.split(trials.key[0], 3)[0])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        x, seen = ({k: v[index] for k, v in part.items()} for part in (features, present))
        targets = optax.smooth_labels(jax.nn.one_hot(labels[index], CLASSES), 0.1)
        return optax.softmax_cross_entropy(nnx.merge(graph, params, rest)(x, seen).logits, targets).mean()

    optimizer = optax.chain(optax.add_decayed_weights(1e-3), optax.adam(1e-2))
    value, grads = loss(params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(fitted.train_loss[0, 0], value, rtol=1e-5)
    assert_trees_close(
        jax.tree.map(lambda x: x[0], fitted.best.params), optax.apply_updates(params, updates), atol=1e-5
    )


def test_runs_validate_their_fold_and_train_on_the_rest():
    fold_of = np.array([0, 1, 2, 0, 1, 0, 2])
    settings = [setting(seen, seed) for seen in (MODALITIES, ("image",)) for seed in (3, 4)]
    extra = [[np.array(clips)] for clips in ([7, 8], [7, 8], [9], [9])]
    trials = make_trials(fold_of, KEY, settings, room=4, extra=extra)
    np.testing.assert_array_equal(trials.fold, [0, 1, 2] * 4)
    assert trials.train.shape == (12, 9)
    for extra, fold, train, validation in zip([[7, 8]] * 6 + [[9]] * 6, *trials[1:4], strict=True):
        np.testing.assert_array_equal(validation[validation >= 0], np.flatnonzero(fold_of == fold))
        np.testing.assert_array_equal(train[train >= 0], [*np.flatnonzero(fold_of != fold), *extra])
    assert {name: sees[::11].tolist() for name, sees in trials.sees.items()} == {
        name: [True, name == "image"] for name in MODALITIES
    }
    keys = jax.random.key_data(trials.key)
    np.testing.assert_array_equal(keys[:6], keys[6:])  # settings share draws
    assert len(np.unique(keys[:6], axis=0)) == 6  # seeds and folds do not


def test_each_fold_trains_on_its_own_extra_clips_and_seeds_differ_in_draws_alone():
    fold_of = np.array([0, 1, 0, 1])
    extra = [[np.array([4, 5]), np.array([6])], [np.array([7])]]
    settings = [setting(), replace(setting(), name="other")]
    trials = make_trials(fold_of, KEY, settings, room=2, extra=extra, seeds=3)
    np.testing.assert_array_equal(trials.fold, [0, 0, 0, 1, 1, 1] * 2)
    train = [row[row >= 0].tolist() for row in np.asarray(trials.train)]
    assert train == [[1, 3, 4, 5]] * 3 + [[0, 2, 6]] * 3 + [[1, 3, 7]] * 3 + [[0, 2, 7]] * 3
    keys = jax.random.key_data(trials.key)
    assert len(np.unique(keys[:6], axis=0)) == 6
    np.testing.assert_array_equal(keys[:6], keys[6:])
    one = make_trials(fold_of, KEY, settings, room=2, extra=extra)
    np.testing.assert_array_equal(jax.random.key_data(one.key), keys[::3])  # the first is that of a single seed


def test_copies_train_with_their_originals_and_are_never_validated():
    fold_of = np.array([0, 1, 2, 0, 1, 2])
    trials = make_trials(fold_of, KEY, [setting()], room=2, extra=[[np.array([9])]], copy_of=[0, 0, 4])
    for fold, copies in enumerate(([8], [6, 7], [6, 7, 8])):
        train, validation = trials.train[fold], trials.validation[fold]
        np.testing.assert_array_equal(train[train >= 0], [*np.flatnonzero(fold_of != fold), *copies, 9])
        np.testing.assert_array_equal(validation, np.flatnonzero(fold_of == fold))
    assert trials.train.shape == (3, 4 + 3 + 2)


def test_scores_are_each_members_on_batches_of_any_size():
    features, present, labels = toy()
    features = {**features, "text": np.stack([features["text"] + fold for fold in range(3)])}
    trials = make_trials(make_folds(labels, 3, seed=0), KEY, [setting()])
    params = nnx.vmap(lambda key: nnx.state(new_model(key), nnx.Param))(trials.key)
    scores = Scorer(DIMS, CLASSES, 16, batch_size=32)(Members(params, trials.fold, trials.sees), features, present)
    assert scores.attention.shape == (3, 90, 2)
    for fold in range(3):
        x = {"speech": features["speech"], "text": features["text"][fold]}
        np.testing.assert_allclose(scores.logits[fold], new_model(trials.key[fold])(x, present).logits, atol=1e-5)

    large = Scorer(DIMS, CLASSES, 16)
    blind = Members(params, trials.fold, {**trials.sees, "text": jnp.zeros(3, bool)})
    without_text = {**present, "text": np.zeros(90, bool)}
    np.testing.assert_allclose(
        large(blind, features, present).logits,
        large(Members(params, trials.fold, trials.sees), features, without_text).logits,
        atol=1e-6,
    )


DEVICES_AGREE = """
import jax, numpy as np
import tests.fusion.test_trainer as t
features, present, labels = t.toy(60)
training_set = t.make_training_set(features, present, labels)
trials = t.make_trials(t.make_folds(labels, 5, seed=0), t.KEY, [t.setting()])
results, scores = [], []
for count in (1, 2, 5, 8):
    devices = jax.devices()[:count]
    assert len(devices) == count
    trainer = t.FoldTrainer(t.DIMS, t.CLASSES, t.SETTINGS, devices)
    results.append(jax.device_get(trainer.train(training_set, trials)))
    t.assert_trees_close(results[-1], results[0], atol=1e-5)
    without_pmap = t.FoldTrainer(t.DIMS, t.CLASSES, t.replace(t.SETTINGS, over_devices="shard_map"), devices)
    assert t.replace(t.SETTINGS, over_devices="pmap") == t.SETTINGS
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(without_pmap.train(training_set, trials)), results[-1])
for devices in (jax.devices()[:1], jax.devices()):
    members = t.Members(results[0].final.params, trials.fold, trials.sees)
    scorer = t.Scorer(t.DIMS, t.CLASSES, 16, batch_size=8, devices=devices)
    scores.append(scorer(members, features, present).logits)
np.testing.assert_allclose(*scores, atol=1e-5)
"""


def test_any_number_of_devices_gives_the_same_result():
    eight = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": eight, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", DEVICES_AGREE], env=env, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
