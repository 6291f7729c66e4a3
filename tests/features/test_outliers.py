"""Embeddings out of all proportion are absent, and say so."""

import numpy as np
import pytest

from mer_jax.features.embeddings import Features
from mer_jax.features.outliers import without_outliers
from mer_jax.features.store import FeatureStore, Row


def embeddings(shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("largest", [3e38, -1e6])
@pytest.mark.parametrize("folds", [(), (2,)])
def test_one_absurd_value_costs_its_clip_the_modality(capsys, largest, folds):
    x, present = embeddings((*folds, 9, 3)), np.arange(9) != 7
    x[..., 4, 1] = largest
    cleaned = without_outliers(Features(x, present, {7: "silent"}), "speech")
    assert cleaned.present.tolist() == [i not in (4, 7) for i in range(9)]
    assert cleaned.reasons[7] == "silent" and cleaned.reasons[4].startswith("its largest value (")
    assert "1 of 9 speech embeddings" in capsys.readouterr().err
    others = np.arange(9) != 4
    np.testing.assert_array_equal(cleaned.embeddings[..., others, :], x[..., others, :])
    assert not cleaned.embeddings[..., 4, :].any()


def test_rows_on_disk_stay_there(tmp_path):
    store, x = FeatureStore(tmp_path), embeddings((5, 3))
    x[2] = 1e9
    store.append([Row(str(i), row) for i, row in enumerate(x)])
    cleaned = without_outliers(store.features(["3", "2", "1"]), "text")
    assert cleaned.present.tolist() == [True, False, True] and cleaned.embeddings.shape == (3, 3)
    np.testing.assert_array_equal(np.asarray(cleaned.embeddings), [x[3], np.zeros(3), x[1]])


def test_what_is_of_the_others_size_stays():
    features = Features(embeddings((9, 3)) * np.geomspace(1, 1e3, 9, dtype=np.float32)[:, None], np.ones(9, bool), {})
    same = without_outliers(features, "speech")
    assert same.embeddings is features.embeddings and same.present.all() and not same.reasons
    assert same.usual_size == np.median(np.abs(features.embeddings).max(axis=1))
    nothing = Features(np.zeros((3, 0), np.float32), np.zeros(3, bool), {})
    assert without_outliers(nothing, "speech") == nothing


def test_values_that_float32_cannot_square_are_no_embeddings_though_all_are_alike():
    cleaned = without_outliers(Features(embeddings((9, 3)) * np.float32(1e30), np.ones(9, bool), {}), "speech")
    assert not cleaned.present.any() and cleaned.reasons[0].endswith("is no embedding's")


@pytest.mark.parametrize(("usual", "present"), [(0.0, True), (1e-3, True), (1e-5, False)])
def test_one_clip_is_compared_with_those_that_were_learned_from(usual, present):
    features = Features(np.array([[0.5, -1.0]], np.float32), np.ones(1, bool), {})
    assert without_outliers(features, "speech", usual).present == [present]
