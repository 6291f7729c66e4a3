import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.tables import read_table
from mer_jax.fusion.folds import FoldSettings, make_folds, run_folds
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


def grouped_dataset():
    """Twelve labelled clips of four speakers, an unlabelled one before each."""
    clips = []
    for i in range(12):
        clips.append(Clip(f"u{i}", "unlabeled", group=f"speaker {i % 4}"))
        clips.append(Clip(f"c{i}", "train", label="yx"[i % 2], group=f"speaker {i // 3}"))
    return Dataset("toy", ("x", "y"), tuple(clips), {})


def test_a_runs_folds_keep_to_the_groups_of_the_clips_and_stand_in_a_file(tmp_path):
    folds = run_folds(grouped_dataset(), FoldSettings(folds=2), 0, tmp_path)
    np.testing.assert_array_equal(folds.positions, np.arange(1, 24, 2))
    np.testing.assert_array_equal(folds.labels, [1, 0] * 6)
    assert [len(set(folds.fold_of[3 * speaker :][:3])) for speaker in range(4)] == [1] * 4
    assert sorted(np.bincount(folds.fold_of)) == [6, 6]
    lines = (tmp_path / "folds.csv").read_text("utf-8").splitlines()
    assert lines == ["name,fold", *(f"c{i},{fold}" for i, fold in enumerate(folds.fold_of))]


def test_a_runs_folds_are_by_its_seed(tmp_path):
    ungrouped = Dataset("toy", ("x", "y"), tuple(Clip(f"c{i}", "train", label="xy"[i % 2]) for i in range(40)), {})
    first, again, other = (run_folds(ungrouped, FoldSettings(), seed, tmp_path).fold_of for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and len(set(first.tolist())) == 5


def test_without_a_label_there_are_no_folds(tmp_path):
    with pytest.raises(DataError, match="toy: no labelled clip"):
        run_folds(Dataset("toy", ("x", "y"), (Clip("a", "test"),), {}), FoldSettings(), 0, tmp_path)


def test_any_names_stand_whole_in_the_file_of_folds(tmp_path):
    names = ["a,b", 'c"d', "=e", "f"]
    clips = tuple(Clip(name, "train", label="xy"[i % 2]) for i, name in enumerate(names))
    folds = run_folds(Dataset("toy", ("x", "y"), clips, {}), FoldSettings(folds=2), 0, tmp_path)
    rows = read_table(tmp_path / "folds.csv", ("name", "fold"))
    assert [(row["name"], int(row["fold"])) for row in rows] == list(zip(names, folds.fold_of, strict=True))
