"""Score dictionaries against scikit-learn."""

import numpy as np
import pytest
from mer_jax.report.results import scores
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 3, 50), rng.dirichlet([1, 1, 1, 0.1], 50)  # class 3 never occurs
    found = scores(labels, probs, "abcd")
    predictions = probs.argmax(1)
    expected = precision_recall_fscore_support(labels, predictions, labels=range(4), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in found["per_class"]] == pytest.approx(list(values))
    assert found["waf"] == pytest.approx(f1_score(labels, predictions, average="weighted", zero_division=0))
    assert found["confusion"] == confusion_matrix(labels, predictions, labels=range(4)).tolist()
