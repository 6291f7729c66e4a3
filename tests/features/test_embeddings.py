"""What clips lack is counted by reason."""

import numpy as np

from mer_jax.features.embeddings import Features


def test_the_usual_reasons_are_named_and_the_others_counted():
    reasons = dict(enumerate(["silent", "no sound", "silent", "late", "cut"]))
    features = Features(np.zeros((9, 2)), np.arange(9) > 4, reasons)
    assert features.absences(2) == ["2 without: silent", "1 without: no sound", "2 without for other reasons"]
    assert features.absences()[-1] == "1 without: cut"
    assert Features(np.zeros((9, 2)), np.ones(9, bool), {}).absences() == []
