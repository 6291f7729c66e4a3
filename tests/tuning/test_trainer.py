"""Prompt tuning: who trains on whom, what is learned, and continuing after an interruption."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mer_jax.data.corruptions import CorruptionSettings
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.readers import VideoReader, read_all
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.runtime.errors import DataError
from mer_jax.tuning import batches
from mer_jax.tuning.batches import Batch, FoldBatches
from mer_jax.tuning.trainer import Tuner, tune
from mer_jax.tuning.tune_settings import TuneSettings
from tests.tuning.conftest import backbone, tokenizer

SETTINGS = TuneSettings(
    batch_size=6, micro_batch=0, epochs=4, warmup_epochs=1, learning_rate=0.03, weight_decay=1e-3, label_smoothing=0.1
)

LABELS = np.arange(12) % 2
FOLDS = np.arange(12) // 2 % 3


CLEAN = CorruptionSettings()
NOISY = CorruptionSettings(probability=0.5, snr_db=(), blur=0.1, downsample=2.0)


def run(clips, folder, labels=LABELS, advance=lambda count: None, corruption=CLEAN, depth=2, made_of="", **changes):
    settings = replace(SETTINGS, **changes)

    def build(key):
        return EmoVCLIP(backbone(), ["left", "top"], 2, depth, tokenizer=tokenizer, rngs=nnx.Rngs(key))

    batches = FoldBatches(
        clips,
        labels,
        FOLDS,
        VideoReader(16, 3),
        corruption,
        ExtractionSettings(),
        batch_size=settings.batch_size,
        seed=0,
    )
    return tune(build, batches, settings, 0, folder, made_of, advance)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_prompts_learn(clips, tmp_path):
    state = run(clips, tmp_path, epochs=12)
    assert state.loss.shape == state.waf.shape == (3, 12)
    assert state.loss[:, -1].mean() < 0.8 * state.loss[:, 0].mean()
    assert {leaf.shape[0] for leaf in leaves(state.prompts)} == {3}


def test_no_set_sees_the_labels_of_its_own_fold(clips, tmp_path):
    flipped = np.where(FOLDS == 1, 1 - LABELS, LABELS)
    one, other = run(clips, tmp_path / "a"), run(clips, tmp_path / "b", labels=flipped)
    for a, b in zip(leaves(one.prompts), leaves(other.prompts), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
        assert not np.array_equal(a[0], b[0])


@pytest.mark.parametrize("corruption", [CLEAN, NOISY], ids=["clean", "corrupted"])
def test_an_interrupted_run_continues_bit_for_bit(clips, tmp_path, corruption):
    whole = run(clips, tmp_path / "whole", corruption=corruption)
    calls = []

    def interrupt(count):
        calls.append(count)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "cut", advance=interrupt, corruption=corruption)
    for a, b in zip(leaves(whole), leaves(run(clips, tmp_path / "cut", corruption=corruption)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frames_are_corrupted_anew_each_epoch_in_training_alone(clips, tmp_path, monkeypatch):
    read = []

    def watched(pairs, *rest):
        read.append([clip for _, clip in pairs])
        return read_all(pairs, *rest)

    monkeypatch.setattr(batches, "read_all", watched)
    run(clips, tmp_path, corruption=NOISY, epochs=2)
    first, first_scored, second, second_scored = ({clip.name: clip.corruption for clip in epoch} for epoch in read)
    assert len(first) == len(clips) and any(first.values()) and not all(first.values())
    assert first != second
    assert not any(first_scored.values()) and not any(second_scored.values())


@pytest.mark.parametrize("size", [1, 3])  # of 4 clips a step: in equal parts, and with one filled up
def test_micro_batches_change_nothing(clips, tmp_path, size):
    whole, parts = run(clips, tmp_path / "whole", epochs=2), run(clips, tmp_path / "parts", epochs=2, micro_batch=size)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    for a, b in zip(leaves(parts.prompts), leaves(whole.prompts), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)  # of 0.03 a step: Adam divides by gradients near 0


def test_clips_come_in_another_order_and_with_other_frames_in_each_epoch(clips, tmp_path, monkeypatch):
    read = []

    def watched(pairs, *rest):
        read.append([(clip.name, tuple(reader.choose(3, 300))) for reader, clip in pairs])
        return read_all(pairs, *rest)

    monkeypatch.setattr(batches, "read_all", watched)
    run(clips, tmp_path, epochs=2)
    first, scored, second, scored_again = read
    assert (
        sorted(name for name, _ in first) == sorted(name for name, _ in second) == sorted(clip.name for clip in clips)
    )
    assert [name for name, _ in first] != [name for name, _ in second]
    assert all(dict(first)[clip.name] != dict(second)[clip.name] for clip in clips)
    assert scored == scored_again and {frames for _, frames in scored} == {(50, 150, 250)}


def network(seed=0):
    return EmoVCLIP(backbone(), ["left", "top"], 2, 2, tokenizer=tokenizer, rngs=nnx.Rngs(seed))


def tuner(mode="per_fold", folds=3, **changes):
    settings = replace(SETTINGS, mode=mode, **changes)
    made = Tuner(network(), settings, folds, seed=0, steps_per_epoch=2)
    return made, made.init(network)


def random_batch(seed=0, folds=3, clips=4):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(folds, clips, 3, 16, 16, 3)).astype(np.float32)
    labels = rng.integers(0, 2, (folds, clips))
    return Batch(pixels, np.ones((folds, clips, 3), bool), labels, np.ones((folds, clips), bool))


RATES = (0.0, 0.005, 0.01, 0.005)  # of the steps of two epochs, one of them to warm up: then half a cosine


def torch_adamw(start, gradients):
    """Weights after a step of each of `RATES`; `gradients` gives those of all weights at a step's weights."""
    import torch

    weights = [torch.tensor(leaf, requires_grad=True) for leaf in start]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.1)
    path = {}
    for step, rate in enumerate(RATES):
        for weight, gradient in zip(weights, gradients([w.detach().numpy() for w in weights], step), strict=True):
            weight.grad = torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        path |= {f"{step}.{i}": weight.detach().numpy().copy() for i, weight in enumerate(weights)}
    return path


def test_steps_are_torchs_adamw_on_the_smoothed_loss_of_flipped_frames(oracle):
    """All labelled: the one set trains on the clips of both folds."""
    trained, state = tuner("all_labelled", folds=2, epochs=2, warmup_epochs=1, learning_rate=0.01, weight_decay=0.1)
    flips = np.array([[True, False], [False, True]])
    graphdef, _, frozen = nnx.split(network(), Prompt, ...)
    prompts, optimizer = state.prompts, state.optimizer
    structure, start = jax.tree.structure(prompts), [leaf[0] for leaf in leaves(prompts)]
    batches = [random_batch(step, folds=2, clips=2) for step in range(len(RATES))]

    @jax.jit
    @jax.value_and_grad
    def loss_of(prompts, pixels, labels):
        log_probs = jax.nn.log_softmax(nnx.merge(graphdef, prompts, frozen)(pixels))
        return -jnp.mean(0.95 * log_probs[jnp.arange(4), labels] + 0.05 * log_probs[jnp.arange(4), 1 - labels])

    def loss_and_gradients(weights, step):
        pixels = batches[step].pixels.reshape(4, 3, 16, 16, 3).copy()
        pixels[[0, 3]] = pixels[[0, 3], :, :, ::-1]  # left and right
        plain = jax.tree.unflatten(structure, [jnp.asarray(weight) for weight in weights])
        return loss_of(plain, pixels, batches[step].labels.reshape(4))

    path = oracle(
        "tuning/adamw", lambda: torch_adamw(start, lambda weights, step: leaves(loss_and_gradients(weights, step)[1]))
    )
    weights = start
    for step, batch in enumerate(batches):
        expected, _ = loss_and_gradients(weights, step)
        prompts, optimizer, loss = trained.step(
            (prompts, optimizer, trained.train_folds), batch, flips, trained.backbone
        )
        np.testing.assert_allclose(loss[0], expected, rtol=1e-5)
        weights = [path[f"{step}.{i}"] for i in range(len(start))]
        for ours, weight in zip(leaves(prompts), weights, strict=True):
            np.testing.assert_allclose(ours[0], weight, atol=1e-5)


def test_flips_are_drawn_anew_in_each_step_and_epoch():
    trained, state = tuner()
    seen = []
    trained.step = lambda run, batch, flips, backbone: (seen.append(np.asarray(flips)), run[0], run[1], jnp.zeros(3))[
        1:
    ]
    trained.score = lambda run, batch, backbone: jnp.zeros((3, 1, 40, 2))
    batch = random_batch(folds=3, clips=40)
    for number in range(2):
        trained.epoch(state, number, iter([batch, batch]), iter([batch]))
    assert len({flips.tobytes() for flips in seen}) == 4 and seen[0].shape == (3, 40)
    assert 0.4 < np.mean(seen) < 0.6


def test_each_set_keeps_the_prompts_of_the_last_epoch_whatever_it_scores():
    """Scores by hand: set 0 is best in the second epoch, set 1 in the first."""
    trained, state = tuner(folds=2)
    batch = random_batch(folds=2, clips=2)._replace(labels=np.array([[0, 1], [0, 1]]))
    right, wrong = [[5.0, 0], [0, 5]], [[0.0, 5], [5, 0]]
    logits = iter([[wrong, right], [right, wrong], [right, wrong]])  # of each epoch and set
    trained.step = lambda run, *rest: (jax.tree.map(lambda x: x + 1, run[0]), run[1], jnp.array([1.0, 3.0]))
    trained.score = lambda run, batch, backbone: jnp.array(next(logits))[:, None]
    start = leaves(state.prompts)
    for number in range(3):
        state = trained.epoch(state, number, iter([batch]), iter([batch]))
    np.testing.assert_array_equal(state.waf[:, :3], [[0, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(state.loss[:, :3], [[1, 1, 1], [3, 3, 3]])
    for before, last in zip(start, leaves(state.prompts), strict=True):
        np.testing.assert_allclose(last - before, 3, atol=1e-5)


@pytest.mark.parametrize(("mode", "waf"), [("per_fold", [1, 0, 0]), ("all_labelled", [1 / 3])])
def test_each_set_is_validated_on_its_own_fold_and_a_single_one_on_all(mode, waf):
    """The true class is foreseen in fold 0 alone."""
    trained, state = tuner(mode)
    batch = random_batch()._replace(labels=np.array([[0, 1, 0, 1]] * 3))
    truth = jax.nn.one_hot(batch.labels, 2)  # [G, b, C]
    foreseen = jnp.stack([truth[0], 1 - truth[1], 1 - truth[2]])
    trained.step = lambda run, *rest: (run[0], run[1], jnp.zeros(len(waf)))
    trained.score = lambda run, batch, backbone: foreseen[run[1]]  # run: prompts, the folds to validate on [R, v]
    state = trained.epoch(state, 0, iter([batch]), iter([batch]))
    np.testing.assert_allclose(state.waf[:, 0], waf, rtol=1e-6)


def test_depth_0_trains_nothing_and_scores_as_plain_clip_does(clips, tmp_path):
    state = run(clips, tmp_path, epochs=2, depth=0)
    assert not any(leaf.size for leaf in leaves(state.prompts))
    np.testing.assert_array_equal(state.waf[:, 0], state.waf[:, 1])


def test_prompts_of_one_tower_alone(clips, tmp_path):
    state = run(clips, tmp_path, epochs=1, depth=(0, 1))
    assert sorted(leaf.size > 0 for leaf in leaves(state.prompts)) == [False, True]


def test_clips_that_cannot_be_read_cost_themselves(clips, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no media")
    broken = [replace(clip, media=tmp_path / "broken.mp4") for clip in clips]
    lost = [*broken[:6], *clips[6:]]  # whole batches of them
    assert np.isfinite(run(lost, tmp_path / "some", epochs=1, batch_size=3).loss).all()
    assert np.isfinite(run(broken, tmp_path / "none", epochs=1).loss).all()


def test_a_loss_that_is_not_finite_is_named_and_not_kept(clips, tmp_path):
    with pytest.raises(DataError, match=r"diverged \(set 1, epoch [12]\): lower tune\.learning_rate"):
        run(clips, tmp_path, learning_rate=1e30, warmup_epochs=0)
    assert not (tmp_path / "3").exists()


@pytest.mark.parametrize("damage", ["flipped", "other clips"])
def test_a_checkpoint_that_is_not_this_tunings_is_named_and_tuned_anew(clips, tmp_path, capsys, damage):
    first = run(clips, tmp_path, epochs=2)
    if damage == "flipped":
        (largest,) = sorted((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)[-1:]
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    again = run(clips, tmp_path, epochs=2, made_of="" if damage == "flipped" else "other clips")
    assert capsys.readouterr().err.startswith(f"  {tmp_path / '1'}")
    assert all(map(np.array_equal, leaves(first), leaves(again)))
