"""Predictions -> the score dictionaries of `schema.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mer_jax.metrics import accuracy, class_f1, confusion_matrix, expected_calibration_error, waf


def scores(labels: np.ndarray, probs: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """A `Scores` dictionary without its spread; labels [N] int, probs [N, C], names [C]."""
    predictions = probs.argmax(-1)
    matrix = confusion_matrix(labels, predictions, len(names))
    hits, support, guessed = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    f1 = class_f1(labels, predictions, len(names))
    return {
        "waf": waf(labels, probs),
        "accuracy": accuracy(labels, predictions),
        "ece": expected_calibration_error(labels, probs),
        "per_class": [
            {
                "label": name,
                "precision": float(hits[i] / max(guessed[i], 1)),
                "recall": float(hits[i] / max(support[i], 1)),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(names)
        ],
        "confusion": matrix.tolist(),
    }
