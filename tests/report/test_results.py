"""Score dictionaries against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from mer_jax.report.results import scores


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 3, 50), rng.dirichlet([1, 1, 1, 0.1], 50)  # class 3 never occurs
    found = scores(labels, probs, "abcd")
    predictions = probs.argmax(1)
    expected = precision_recall_fscore_support(labels, predictions, labels=range(4), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in found["per_class"]] == pytest.approx(list(values))
    assert found["waf"] == pytest.approx(f1_score(labels, predictions, average="weighted", zero_division=0))
    assert found["accuracy"] == accuracy_score(labels, predictions)
    assert found["confusion"] == confusion_matrix(labels, predictions, labels=range(4)).tolist()


def test_calibration_in_fifteen_bins_by_hand():
    """0.95 falls into the last bin, 0.9 into the one before, where one of two is right."""
    probs = np.array([[0.95, 0.05], [0.1, 0.9], [0.1, 0.9]])
    expected = ((1 - 0.95) + abs((1 - 0.9) + (0 - 0.9))) / 3
    assert scores(np.array([0, 1, 0]), probs, "ab")["ece"] == pytest.approx(expected)
