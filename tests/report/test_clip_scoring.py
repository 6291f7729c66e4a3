"""What the networks make of single clips: of labelled ones, those that have not seen them."""

import numpy as np
import pytest

from mer_jax.data.clips import SPLITS
from mer_jax.fusion.data import fusion_data
from mer_jax.fusion.ensemble import Scorer
from mer_jax.metrics import softmax
from mer_jax.report import clip_scoring as module
from mer_jax.report.clip_scoring import clip_scores, shown
from mer_jax.report.results import temperatures_of_others
from tests.fusion.test_cross_validation import SPEECH, cross_validation
from tests.fusion.test_data import DATASET, FOLDS, LABELLED, features


@pytest.fixture(scope="module")
def scored():
    """A cross-validation, its trained setting, temperatures of the ensemble and of folds, and the scores."""
    rows = features()["speech"]
    rows.present[LABELLED + 1] = False  # the second unlabelled clip
    data, _ = fusion_data(DATASET, {"speech": rows}, FOLDS, np.zeros(0, int), standardise="all")
    fusion = cross_validation(data)
    trained = fusion.train([SPEECH])["speech"]
    temperatures, of_folds = np.array([2.0]), temperatures_of_others(fusion, trained) + np.arange(3)[:, None]
    return fusion, trained, temperatures, of_folds, clip_scores(fusion, trained, temperatures, of_folds)


def test_labelled_clips_are_judged_by_networks_that_have_not_seen_them(scored):
    fusion, trained, _, of_folds, scores = scored
    own = of_folds[fusion.data.fold_of]
    expected = softmax(fusion.held_out_logits(trained.fitted) / own)
    np.testing.assert_allclose(scores["train"]["probs"], expected, atol=2e-3)
    scorer = Scorer(fusion.data.dims, 2, fusion.networks.scorer.hidden)
    attention = scorer(trained.blind_members, *fusion.data.labelled[:2]).attention
    held_out = attention[fusion.data.fold_of, np.arange(len(own))]
    np.testing.assert_allclose(scores["train"]["attention"], held_out, atol=2e-3)


def test_other_clips_are_judged_by_the_ensemble_as_in_the_predictions(scored):
    fusion, trained, temperatures, _, scores = scored
    for split, probs in fusion.predictions(trained, temperatures).items():
        np.testing.assert_allclose(scores[split]["probs"], probs, atol=6e-4)
        assert scores[split]["positions"] == list(range(4))
        best = scores[split]["subsets"]["speech"]
        known = [i for i, each in enumerate(best) if each]
        assert known == ([0, 2, 3] if split == "unlabeled" else [0, 1, 2, 3])
        assert all(best[i][0] == probs[i].argmax() for i in known)


def test_labelled_and_test_clips_are_shown_first_and_the_others_thinned_out(monkeypatch):
    monkeypatch.setattr(module, "MOST_CLIPS", 10)
    positions = shown({"train": 3, "unlabeled": 100, "test": 2})
    assert list(positions) == list(SPLITS)
    assert {split: each.tolist() for split, each in positions.items()} == {
        "train": [0, 1, 2],
        "unlabeled": [0, 20, 40, 60, 80],
        "test": [0, 1],
    }
    assert [len(each) for each in shown({"train": 8, "unlabeled": 0, "test": 9}).values()] == [8, 0, 2]
