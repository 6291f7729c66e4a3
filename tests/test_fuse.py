"""Features and corrupted copies -> what fusion trains on, validates and scores."""

import jax
import numpy as np
import pytest
from mer_jax.fuse import Fusion, fusion_data
from mer_jax.stages import Features

from configs.semi import get_config
from mer_jax.data.clips import Clip, Dataset
from mer_jax.fusion.ensemble import Members, Scores
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.trials import Setting
from mer_jax.self_training import Options, PseudoLabels, select_balanced

LABELLED = 12
CLIPS = [Clip(f"c{i}", "train", label="ab"[i % 2]) for i in range(LABELLED)]
CLIPS += [Clip(f"{split}{i}", split) for split in ("unlabeled", "test") for i in range(4)]
DATASET = Dataset("toy", ("a", "b"), tuple(CLIPS), {})
TRUTH = np.arange(LABELLED) % 2
FOLDS = make_folds(TRUTH, 3, 0)
COPY_OF = np.array([0, 0, 5, 7])


def features(scale=1.0, dropped=()):
    """Random ones of the clips, then of the copies; `scale` of the first two copies, `dropped` of the copies."""
    rows = np.random.default_rng(0).normal(size=(len(CLIPS) + len(COPY_OF), 6)).astype(np.float32)
    rows[len(CLIPS) : len(CLIPS) + 2] *= scale
    present = np.ones(len(rows), bool)
    present[3] = False  # a labelled clip without anything
    present[[len(CLIPS) + i for i in dropped]] = False
    return {"speech": Features(rows * present[:, None], present, {})}


def data(copy_of=COPY_OF, **changes):
    return fusion_data(DATASET, features(**changes), TRUTH, FOLDS, copy_of, standardise=True)


@pytest.fixture(scope="module")
def config():
    config = get_config().fusion
    config.update({"hidden": 4, "epochs": 3, "batch_size": 4})
    return config


def fit(config, own):
    fusion = Fusion(own, 2, config, Options(rounds=1, k=1), 0, 1)
    return fusion.train([Setting(("speech",))], [PseudoLabels.none()], 0)


def test_copies_keep_to_their_originals_and_those_without_a_modality_are_left_out():
    whole, standardiser = data()
    np.testing.assert_array_equal(whole.copy_of, [0, 0, 4, 6])  # the fourth labelled clip is gone
    assert whole.training.features["speech"].shape == (LABELLED - 1 + 4, 6)
    np.testing.assert_array_equal(whole.training.features["speech"][: LABELLED - 1], whole.labelled.features["speech"])
    np.testing.assert_array_equal(data(dropped=(1, 2))[0].copy_of, [0, 6])
    np.testing.assert_array_equal(data(scale=9.0)[1].mean["speech"], standardiser.mean["speech"])


def test_a_copy_changes_only_the_folds_that_train_on_its_original(config):
    one, other = (fit(config, data(scale=scale)[0]) for scale in (1.0, 3.0))
    for fold in range(3):
        same = all(
            np.array_equal(a[fold], b[fold])
            for a, b in zip(jax.tree.leaves(one.fitted.params), jax.tree.leaves(other.fitted.params), strict=True)
        )
        assert same == (fold == FOLDS[0])
    assert one.fitted.validation_logits.shape[1] == np.bincount(data()[0].fold_of).max()


def test_copies_are_trained_on(config):
    copied, clean = (fit(config, own).fitted for own in (data()[0], data(np.zeros(0, int))[0]))
    assert not np.array_equal(copied.train_loss, clean.train_loss)


def test_a_clip_without_any_modality_is_never_pseudo_labelled(config, tmp_path):
    found = features()["speech"]
    found.present[LABELLED] = False  # the first unlabelled clip
    own = fusion_data(DATASET, {"speech": found}, TRUTH, FOLDS, np.zeros(0, int), standardise=True)[0]
    fusion = Fusion(own, 2, config, Options(rounds=2, k=4), 0, 1)
    rounds, _ = fusion.self_train({"own": Setting(("speech",))}, tmp_path)
    assert sorted(rounds[-1]["own"]["pseudo"]["indices"]) == [1, 2, 3]


def test_the_surest_clips_are_told_apart(config):
    """By float32 probabilities they would all be as sure, and the first ones would be chosen."""
    fusion = Fusion(data()[0], 2, config, Options(rounds=1, k=1), 0, 1)
    logits = np.stack([np.stack([margin, np.zeros(4)], axis=-1) for margin in np.linspace([20, 21, 23, 22], 24, 3)])
    fusion.scorer = lambda members, *clips: Scores(logits.astype(np.float32), logits)
    (probs,) = fusion.ensembles(Members({}, np.arange(3), np.ones((3, 4), bool)), fusion.data.unlabelled)
    assert (np.float32(probs[:, 0]) == 1).all()
    np.testing.assert_array_equal(select_balanced(probs, np.zeros(4, bool), k=1)[0], [2])
