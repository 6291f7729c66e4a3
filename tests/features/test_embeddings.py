"""What clips lack is counted by reason."""

import numpy as np
import pytest

from mer_jax.data.clips import NOT_VALID, Clip
from mer_jax.features.embeddings import Features, of_valid


def test_the_usual_reasons_are_named_and_the_others_counted():
    reasons = dict(enumerate(["silent", "no sound", "silent", "late", "cut"]))
    features = Features(np.zeros((9, 2)), np.arange(9) > 4, reasons)
    assert features.absences(2) == ["2 without: silent", "1 without: no sound", "2 without for other reasons"]
    assert features.absences()[-1] == "1 without: cut"
    assert Features(np.zeros((9, 2)), np.ones(9, bool), {}).absences() == []


@pytest.mark.parametrize("folds", [(), (2,)])
def test_only_clips_for_which_a_modality_counts_are_encoded(folds):
    clips = [Clip("a", "train"), Clip("b", "test", modalities=("image",)), Clip("c", "test", modalities=("speech",))]

    def compute(some):
        assert [clip.name for clip in some] == ["a", "c"]
        rows = np.broadcast_to(np.arange(1.0, 7).reshape(2, 3), (*folds, 2, 3))
        return Features(rows, np.array([True, False]), {1: "silent"}, "digest")

    features = of_valid(clips, "speech", compute)
    assert features.present.tolist() == [True, False, False]
    assert features.reasons == {1: NOT_VALID, 2: "silent"} and features.digest not in ("", "digest")
    expected = np.broadcast_to([[1, 2, 3], [0, 0, 0], [4, 5, 6]], (*folds, 3, 3))
    np.testing.assert_array_equal(features.embeddings, expected)
    np.testing.assert_array_equal(features.embeddings.take(np.array([2, 1])), expected[..., [2, 1], :])
