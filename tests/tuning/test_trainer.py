"""Prompt tuning: who trains on whom, what is learned, and continuing after an interruption."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from mer_jax.features.readers import VideoReader, read_all
from mer_jax.models.emovclip import EmoVCLIP
from mer_jax.runtime.errors import UsageError
from mer_jax.tuning import batches
from mer_jax.tuning.trainer import tune
from tests.tuning.conftest import backbone, tokenizer

SETTINGS = {
    "mode": "per_fold",
    "batch_size": 6,
    "micro_batch": 0,
    "epochs": 4,
    "warmup_epochs": 1,
    "learning_rate": 0.03,
    "weight_decay": 1e-3,
    "label_smoothing": 0.1,
}


LABELS = np.arange(12) % 2
FOLDS = np.arange(12) // 2 % 3


CLEAN = {"probability": 0.0}
NOISY = {"probability": 0.5, "snr_db": (), "blur": 0.1, "downsample": 2.0, "drop": ""}


def run(clips, folder, labels=LABELS, advance=lambda count: None, corruption=CLEAN, depth=2, **changes):
    settings = ConfigDict({**SETTINGS, **changes})

    def build(key):
        return EmoVCLIP(backbone(), ["left", "top"], 2, depth, tokenizer=tokenizer, rngs=nnx.Rngs(key))

    return tune(
        build,
        clips,
        labels,
        FOLDS,
        settings,
        corruption,
        VideoReader(16, 3),
        seed=0,
        folder=folder,
        advance=advance,
    )


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_prompts_learn(clips, tmp_path):
    state = run(clips, tmp_path, epochs=12)
    assert state.loss.shape == state.waf.shape == (3, 12)
    assert state.loss[:, -1].mean() < 0.8 * state.loss[:, 0].mean()
    np.testing.assert_array_equal(state.best_waf, state.waf.max(axis=1))
    assert {leaf.shape[0] for leaf in leaves(state.best_prompts)} == {3}


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


def test_all_labelled_is_one_set(clips, tmp_path):
    state = run(clips, tmp_path, mode="all_labelled", epochs=2)
    assert state.waf.shape == (1, 2)


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


def test_an_unknown_mode_is_an_error(clips, tmp_path):
    with pytest.raises(UsageError, match=r"per_fol'.*per_fold or all_labelled"):
        run(clips, tmp_path, mode="per_fol")
