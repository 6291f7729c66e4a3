"""The prior of votes: what its weight comes to, whom it helps, and that no held-out label leaks by it."""

from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.votes import Votes
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import FusionData, Groups
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.fusion.votes import VotePrior, agree, alone, fit_weight
from mer_jax.metrics import softmax
from mer_jax.report.results import temperatures_of_others
from mer_jax.report.votes import table_section, vote_cautions, votes_section
from mer_jax.self_training_settings import SelfTrainingSettings
from tests.fusion.test_cross_validation import informative

CLASSES = 3


def voter(labels, accuracy, seed=0):
    """Log-votes of one who is right so often, at random."""
    rng = np.random.default_rng(seed)
    others = (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES
    said = np.where(rng.random(len(labels)) < accuracy, labels, others)
    return VotePrior.of(Votes(np.eye(CLASSES)[said]), *[np.arange(len(labels))] * 3).labelled


def noisy(labels, seed=1):
    """Logits that are right about as often, and surer than they should be."""
    return 3 * (np.eye(CLASSES)[labels] + np.random.default_rng(seed).normal(size=(len(labels), CLASSES)))


LABELS = np.arange(600) % CLASSES


def test_smoothed_votes_are_logarithms_in_which_no_vote_says_nothing():
    votes = Votes(np.array([[1.0, 0, 0], [0, 0, 0], [0.5, 0.5, 0], [1 / 3] * 3]))
    prior = VotePrior.of(votes, np.array([0, 1]), np.array([2]), np.array([3]))
    np.testing.assert_allclose(softmax(prior.labelled[0]), [0.95 + 0.05 / 3, 0.05 / 3, 0.05 / 3])
    np.testing.assert_array_equal(prior.labelled[1], np.zeros(3))
    np.testing.assert_allclose(softmax(prior.unlabelled[0]), [0.475 + 0.05 / 3] * 2 + [0.05 / 3])
    np.testing.assert_allclose(prior.test, np.zeros((1, 3)), atol=1e-12)


def test_the_weight_is_the_most_likely_one_beside_a_temperature():
    """By Bayes log(2 a / (1 - a)) of a voter of accuracy a, beside logits that are as sure as they should be."""
    labels = np.arange(60_000) % CLASSES
    prior, accuracy = voter(labels, 0.7), 0.7
    worth = np.log(2 * accuracy / (1 - accuracy)) / (prior.max() - prior.min())
    assert alone(prior, labels) == pytest.approx(worth, rel=0.03)
    logits = noisy(labels) / 3  # by noise of variance 1
    assert fit_weight(logits, prior, labels) == pytest.approx(worth, rel=0.05)
    assert fit_weight(3 * logits, prior, labels) == pytest.approx(3 * worth, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_good_voter_helps_and_a_worthless_one_has_no_weight(seed):
    logits = noisy(LABELS, seed + 10)
    right = lambda weight, prior: (logits + weight * prior).argmax(-1) == LABELS  # noqa: E731
    good, worthless = voter(LABELS, 0.6, seed), voter(LABELS, 1 / CLASSES, seed)
    assert fit_weight(logits, worthless, LABELS) == alone(worthless, LABELS) == 0
    assert right(fit_weight(logits, good, LABELS), good).mean() > right(0, good).mean() + 0.03
    assert fit_weight(logits, np.roll(good, 1, axis=1), LABELS) == 0  # one who is wrong more often than chance
    assert fit_weight(logits, np.zeros_like(good), LABELS) == 0  # nobody votes


def cross_validation(flip=False, mode="none", accuracy=0.8, **self_training):
    """Of 40 labelled clips of two classes in three folds, with votes; `flip` turns the labels of the first fold."""
    (labelled, labels), (unlabelled, said), (test, truth) = informative(40, 0), informative(12, 1), informative(20, 2)
    fold_of, rng = make_folds(labels, 3, 0), np.random.default_rng(3)
    actual = np.concatenate([labels, said, truth])
    votes = np.where(rng.random(72) < accuracy, actual, 1 - actual)
    prior = VotePrior.of(Votes(np.eye(2)[votes], mode), *np.split(np.arange(72), [40, 52]))
    no_copies, groups = np.zeros(0, int), Groups(*np.split(np.arange(72), [40, 52]))
    labels, unknown = np.where((fold_of == 0) & flip, 1 - labels, labels), np.full(12, -1)
    own = (labelled, labels, fold_of, labelled, no_copies, unlabelled, unknown, test, truth, groups)
    data = FusionData(*own, votes=prior)
    options = SelfTrainingSettings(**{"rounds": 2, "k": 2, "chooser": "own_fold"} | self_training)
    return CrossValidation(data, NETWORKS, 0, [SPEECH], options)


SETTINGS = FusionSettings(hidden=8, epochs=6, batch_size=5, learning_rate=2e-2, dropout=0.0)
SPEECH = Setting.of("speech", SETTINGS, ("speech",))  # noise: networks that can do with help
NETWORKS = Networks({"speech": 5, "text": 3}, 2, SETTINGS)


@pytest.mark.parametrize("mode", ["none", "filter", "vote"])
def test_labels_that_a_fold_holds_out_change_nothing_in_its_honest_networks(tmp_path, mode):
    """Whatever they are, bit for bit, votes included; the other folds' networks learn from them."""
    trained = []
    for flip in (False, True):
        fusion = cross_validation(flip, mode)
        _, final = fusion.self_train(tmp_path / str(flip))
        trained.append(fusion.held_out_logits(fusion.with_votes(final["speech"]).honest.fitted))
    held_out = fusion.data.held_out[0]
    np.testing.assert_array_equal(trained[0][held_out], trained[1][held_out])
    assert not np.array_equal(trained[0][~held_out], trained[1][~held_out])


def test_votes_filter_candidates_or_join_the_networks():
    logits = np.array([[[2.0, 0], [2, 0], [2, 0]]] * 2)  # [G, U, C]
    prior = VotePrior.of(Votes(np.array([[1.0, 0], [0, 1], [0, 0]]), "none"), *[np.arange(3)] * 3)
    eligible, labels, held_out = np.ones((2, 3), bool), np.arange(40) % 2, np.arange(40) % 5 < np.array([[2], [0]])

    def choice(mode, labelled):
        return replace(prior, pseudo_labels=mode, labelled=labelled).for_choice(logits, eligible, labels, held_out)

    good = np.where(np.eye(2)[labels], 2.0, -2.0) * np.where(np.arange(40) % 7, 1, -1)[:, None]
    np.testing.assert_array_equal(choice("filter", good)[1], [[1, 0, 1]] * 2)  # who has no vote stays
    np.testing.assert_array_equal(choice("filter", good)[0], logits)
    np.testing.assert_array_equal(choice("none", good)[0], logits)
    voted, all_eligible = choice("vote", good)
    weights = [alone(good[~clips], labels[~clips]) for clips in held_out]
    assert all_eligible.all() and weights[0] != weights[1] and min(weights) > 0
    np.testing.assert_allclose(voted, logits + np.array(weights)[:, None, None] * prior.unlabelled)


def test_a_vote_for_two_labels_agrees_with_either():
    tied = VotePrior.of(Votes(np.array([[0.5, 0.5, 0.0]] * 3)), *[np.arange(3)] * 3).labelled
    assert agree(np.eye(3), tied).tolist() == [True, True, False]


@pytest.fixture(scope="module")
def voted():
    fusion = cross_validation(rounds=0)
    networks = fusion.train([SPEECH])["speech"]
    return fusion, networks, fusion.with_votes(networks)


def test_a_fold_is_scored_with_the_weight_of_the_others(voted):
    fusion, networks, both = voted
    data, logits = fusion.data, fusion.held_out_logits(networks.fitted)
    expected = logits.copy()
    for fold, clips in enumerate(data.held_out):
        (without,) = fusion.logits_without([SPEECH], fold)
        weight = fit_weight(without[~clips], data.votes.labelled[~clips], data.labels[~clips])
        assert both.votes.folds[fold] == weight > 0
        expected[clips] += weight * data.votes.labelled[clips]
    np.testing.assert_allclose(fusion.held_out_logits(both.fitted), expected)
    np.testing.assert_allclose(fusion.held_out_given(both, ("speech",)), expected, atol=1e-5)
    np.testing.assert_array_equal(both.cv_waf, fusion.fold_wafs(expected))
    assert both.cv_waf.mean() > networks.cv_waf.mean() + 0.1
    assert both.votes.ensemble == fit_weight(logits, data.votes.labelled, data.labels)


def test_predictions_temperatures_and_test_scores_go_by_the_prior(voted):
    fusion, networks, both = voted
    data, weight = fusion.data, both.votes.ensemble
    np.testing.assert_allclose(both.test, networks.test + weight * data.votes.test)
    assert both.test_waf == fusion.waf_given(both, ("speech", "text"))["test_waf"] > networks.test_waf + 0.1
    temperatures = fusion.temperatures(both)
    assert not np.array_equal(temperatures, fusion.temperatures(networks))
    probs = fusion.predictions(both, temperatures)["unlabeled"]
    logits = networks.unlabelled.mean(axis=0) + weight * data.votes.unlabelled
    np.testing.assert_allclose(probs, softmax(logits / temperatures[1]))
    of_first = replace(both, votes=both.votes.of_fold(0))
    expected = fusion.temperatures(of_first, ~data.held_out[0])
    np.testing.assert_array_equal(temperatures_of_others(fusion, both)[0], expected)


def test_without_votes_a_setting_is_itself(voted):
    fusion, networks, _ = voted
    bare = CrossValidation(replace(fusion.data, votes=None), NETWORKS, 0)
    assert bare.with_votes(networks) is networks
    assert votes_section(bare, networks, networks) is None and table_section(None, None) == {}


def test_a_twin_is_voted_upon_as_well(voted):
    fusion, networks, both = voted
    pair = fusion.with_votes(replace(networks, twin=networks))
    np.testing.assert_array_equal(pair.cv_waf, both.cv_waf)
    np.testing.assert_array_equal(pair.honest.fitted.final.validation_logits, both.fitted.final.validation_logits)


def test_what_votes_are_worth_is_in_the_metrics(voted):
    fusion, networks, both = voted
    section = votes_section(fusion, networks, both)
    assert section["weight"] == both.votes.ensemble and section["fold_weights"] == both.votes.folds.tolist()
    said = fusion.data.votes.labelled.argmax(-1)
    assert section["splits"]["train"]["labels"] == (said == fusion.data.labels).mean()
    held_out = fusion.held_out_logits(networks.fitted).argmax(-1)
    assert section["splits"]["train"]["networks"] == (said == held_out).mean()
    assert section["splits"]["unlabeled"] | {"networks": 0} == {"clips": 12, "networks": 0, "labels": None, "waf": None}
    assert section["networks_alone"] == {"cv_waf": networks.cv_waf.mean(), "test_waf": networks.test_waf}
    assert section["with_votes"] == {"cv_waf": both.cv_waf.mean(), "test_waf": both.test_waf}
    assert list(vote_cautions(section)) == []


def test_votes_that_are_the_labels_and_votes_of_no_worth_are_cautioned(voted):
    fusion, networks, _ = voted

    def cautions(labelled):
        own = replace(fusion.data, votes=replace(fusion.data.votes, labelled=labelled))
        told = CrossValidation(own, NETWORKS, 0)
        return list(vote_cautions(votes_section(told, networks, told.with_votes(networks))))

    (line,) = cautions(np.eye(2)[fusion.data.labels])
    assert line.startswith("votes agree with 100% of the labels: ")
    (line,) = cautions(np.zeros((40, 2)))
    assert line.startswith("no labelled clip has a vote: ")
