"""Settings x folds: who is trained on what, and what is predicted and scored of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.features.embeddings import Features
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import Embeddings, FusionData, fusion_data
from mer_jax.fusion.ensemble import MemberOutputs, Members
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.trials import FusionSettings, Setting
from mer_jax.metrics import weighted_f1
from mer_jax.self_training import PseudoLabels, SelfTrainingSettings, select_balanced
from tests.fusion.test_data import COPY_OF, DATASET, FOLDS, LABELLED, data, features

SETTINGS = FusionSettings(hidden=4, epochs=3, batch_size=4)
SPEECH = Setting.of("speech", SETTINGS, ("speech",))


def cross_validation(own, room=0, settings=SETTINGS, num_settings=1):
    return CrossValidation(own, Networks(own.dims, 2, settings), 0, num_settings, room)


def fit(own):
    return cross_validation(own).train([SPEECH], {}, 0)["speech"]


def test_a_copy_changes_only_the_folds_that_train_on_its_original():
    one, other = (fit(data(scale=scale)[0]) for scale in (1.0, 3.0))
    for fold in range(3):
        same = all(
            np.array_equal(a[fold], b[fold])
            for a, b in zip(jax.tree.leaves(one.fitted.params), jax.tree.leaves(other.fitted.params), strict=True)
        )
        assert same == (fold == FOLDS.fold_of[0])
    assert one.fitted.validation_logits.shape[1] == np.bincount(data()[0].fold_of).max()


def test_copies_are_trained_on():
    copied, clean = (fit(own).fitted for own in (data()[0], data(np.zeros(0, int))[0]))
    assert not np.array_equal(copied.train_loss, clean.train_loss)


def test_a_clip_without_any_modality_is_never_pseudo_labelled(tmp_path):
    rows = features()["speech"]
    rows.present[LABELLED] = False  # the first unlabelled clip
    own = fusion_data(DATASET, {"speech": rows}, FOLDS, np.zeros(0, int), standardise=True)[0]
    rounds, _ = cross_validation(own, 4).self_train([SPEECH], SelfTrainingSettings(rounds=2, k=4), tmp_path)
    assert sorted(rounds[-1]["speech"]["pseudo"]["indices"]) == [1, 2, 3]


def scored(fusion, logits):
    """Replaces the scorer by one that gives these logits."""
    scorer = lambda members, *clips: MemberOutputs(np.float32(logits), np.zeros((*logits.shape[:2], 1)))  # noqa: E731
    fusion.networks = SimpleNamespace(scorer=scorer)
    return Members({}, jnp.arange(len(logits)), jnp.ones((len(logits), 4), bool))


def test_the_surest_clips_are_told_apart():
    """By float32 probabilities they would all be as sure, and the first ones would be chosen."""
    fusion = cross_validation(data()[0])
    logits = np.stack([np.stack([margin, np.zeros(4)], axis=-1) for margin in np.linspace([20, 21, 23, 22], 24, 3)])
    members = scored(fusion, logits)
    fusion.networks.scorer.num_classes = 2
    (probs,) = fusion.ensembles(members, fusion.data.unlabelled)
    assert (np.float32(probs[:, 0]) == 1).all()
    np.testing.assert_array_equal(select_balanced(probs, np.zeros(4, bool), k=1)[0], [2])


def test_an_ensemble_averages_logits_not_probabilities():
    """One sure network outweighs two that are unsure: mean logits 2, 0; the mean of probabilities is 0.53, not 0.88."""
    fusion = cross_validation(data()[0])
    logits = np.array([[[8.0, 0.0]], [[-1.0, 0.0]], [[-1.0, 0.0]]]).repeat(4, axis=1)  # [F, U, C]
    members = scored(fusion, logits)
    fusion.networks.scorer.num_classes = 2
    (probs,) = fusion.ensembles(members, fusion.data.unlabelled)
    np.testing.assert_allclose(probs, np.tile([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))], (4, 1)), rtol=1e-6)


def informative(count, seed):
    """Text and speech of clips of two classes; text tells them apart, speech is noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    clips = {
        "speech": rng.normal(size=(count, 5)).astype(np.float32),
        "text": (labels[:, None] * 2 - 1 + 0.3 * rng.normal(size=(count, 3))).astype(np.float32),
    }
    return Embeddings(clips, {name: np.ones(count, bool) for name in clips}), labels


@pytest.fixture(scope="module")
def told_apart():
    (labelled, labels), (unlabelled, _), (test, truth) = informative(40, 0), informative(12, 1), informative(20, 2)
    fold_of, no_copies = make_folds(labels, 2, 0), np.zeros(0, int)
    own = FusionData(labelled, labels, fold_of, labelled, no_copies, unlabelled, np.full(12, -1), test, truth)
    settings = FusionSettings(hidden=8, epochs=15, batch_size=5, learning_rate=2e-2, dropout=0.0)
    table = [Setting.of("+".join(seen), settings, seen) for seen in (("text",), ("speech",), ("speech", "text"))]
    fusion = cross_validation(own, 2, settings, len(table))
    return fusion, fusion.train(table, {"text": PseudoLabels(np.array([3]), np.array([1]), np.array([0.9]))}, 1)


def test_a_trial_learns_from_the_modality_that_its_setting_names(told_apart):
    """Text comes behind speech in every order; that it alone tells the classes apart shows who sees what."""
    _, trained = told_apart
    assert trained["text"].test_waf == trained["speech+text"].test_waf == 1.0
    assert trained["speech"].test_waf < 0.75
    assert (trained["text"].cv_waf == 1).all() and trained["speech"].cv_waf.mean() < 0.85
    assert [each.setting.name for each in trained.values()] == ["text", "speech", "speech+text"]


def test_scores_of_a_setting_are_those_of_its_own_networks(told_apart):
    fusion, trained = told_apart
    for setting in trained.values():
        probs = fusion.held_out(setting)
        for fold, clips in fusion.by_fold():
            expected = weighted_f1(fusion.data.labels[clips], probs[clips].argmax(-1), 2)
            np.testing.assert_allclose(setting.cv_waf[fold], expected, atol=1e-6)
    given_all = fusion.waf_given(trained["speech+text"], ("speech", "text"))
    assert given_all["test_waf"] == trained["speech+text"].test_waf
    assert fusion.waf_given(trained["text"], ("text",))["test_waf"] == 1.0
    assert fusion.waf_given(trained["speech+text"], ("speech",))["test_waf"] < 0.75


def test_pseudo_labelled_clips_join_the_setting_that_chose_them_alone(told_apart):
    fusion, trained = told_apart
    table = [each.setting for each in trained.values()]
    without = fusion.train(table, {}, 1)
    for name, changed in (("text", True), ("speech", False), ("speech+text", False)):
        losses = np.asarray(trained[name].fitted.train_loss), np.asarray(without[name].fitted.train_loss)
        assert np.array_equal(*losses) != changed


def test_without_test_labels_there_is_no_test_score(told_apart):
    fusion, trained = told_apart
    own = fusion.data
    unknown = FusionData(**{**vars(own), "test_truth": np.full(20, -1)})
    blind = CrossValidation(unknown, fusion.networks, 0, 3, 2)
    assert blind.test_waf(trained["text"].test) is None
    half = np.where(np.arange(20) < 10, own.test_truth, -1)
    some = CrossValidation(FusionData(**{**vars(own), "test_truth": half}), fusion.networks, 0, 3, 2)
    assert some.test_waf(np.eye(2)[np.append(own.test_truth[:10], 1 - own.test_truth[10:])]) == 1.0


def test_absent_features_are_no_features():
    present = np.zeros(len(DATASET.clips) + len(COPY_OF), bool)
    present[:LABELLED] = True
    rows = features()["speech"]
    own, _ = fusion_data(DATASET, {"speech": Features(rows.embeddings, present, {})}, FOLDS, COPY_OF, True)
    assert not own.unlabelled.present["speech"].any() and len(own.copy_of) == 0
