import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mer_jax.fusion.folds import make_folds
from mer_jax.runtime.errors import DataError

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=80)


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(2, 6), st.integers(0, 99))
def test_single_clips_are_stratified(labels, num_folds, seed):
    assume(len(labels) >= num_folds)
    fold_of = make_folds(np.array(labels), num_folds, seed)
    np.testing.assert_array_equal(fold_of, make_folds(np.array(labels), num_folds, seed))
    assert set(fold_of.tolist()) == set(range(num_folds))
    for label in set(labels):
        counts = np.bincount(fold_of[np.array(labels) == label], minlength=num_folds)
        assert counts.max() - counts.min() <= 1  # so a rare class is in as many folds as it has members


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(2, 6), st.integers(0, 99))
def test_groups_stay_whole_and_no_fold_is_empty(labels, num_folds, seed):
    groups = np.random.default_rng(seed).integers(0, 12, len(labels)).astype(str)
    assume(len(set(groups)) >= num_folds)
    fold_of = make_folds(np.array(labels), num_folds, seed, groups)
    assert set(fold_of.tolist()) == set(range(num_folds))
    assert all(len(set(fold_of[groups == group].tolist())) == 1 for group in set(groups))


def test_groups_are_spread_by_class():
    # 24 speakers with 10 clips of each of 6 classes: every fold should get 4 or 5 speakers.
    groups = np.repeat(np.arange(24), 60)
    labels = np.tile(np.repeat(np.arange(6), 10), 24)
    counts = np.bincount(make_folds(labels, 5, 0, groups)) // 60
    assert sorted(counts.tolist()) == [4, 5, 5, 5, 5]


def test_seed_changes_the_folds():
    labels = np.arange(60) % 6
    assert (make_folds(labels, 5, 0) != make_folds(labels, 5, 1)).any()


def test_too_few_clips_or_groups():
    with pytest.raises(DataError, match=r"5 folds .* 3"):
        make_folds(np.array([0, 1, 2]), 5, 0)
    with pytest.raises(DataError, match="groups"):
        make_folds(np.zeros(20, int), 3, 0, groups=np.arange(20) % 2)
