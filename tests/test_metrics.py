import warnings

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax import metrics

CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)
compiled = jax.jit(metrics.weighted_f1, static_argnums=2)
SIZE = 40  # one compilation: examples are padded


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.integers(0, 2**32 - 1))
def test_weighted_f1_equals_scikit_learn_whatever_is_masked(pairs, seed):
    labels, predictions = np.array(pairs).T
    rng = np.random.default_rng(seed)
    where = np.sort(rng.permutation(SIZE)[: len(pairs)])
    mask = np.isin(np.arange(SIZE), where)
    padded = rng.integers(0, CLASSES, (2, SIZE))
    padded[:, where] = labels, predictions
    expected = sklearn.metrics.f1_score(labels, predictions, average="weighted", zero_division=0)
    np.testing.assert_allclose(compiled(*padded, CLASSES, mask), expected, atol=1e-6)
    np.testing.assert_allclose(metrics.weighted_f1(labels, predictions, CLASSES), expected, atol=1e-6)


def test_weighted_f1_of_nothing_is_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.weighted_f1(jnp.zeros(3, int), jnp.zeros(3, int), 2, jnp.zeros(3, bool)) == 0


def test_expected_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    # Ten bins: (0.8, 0.9] has accuracy 0.5, (0.5, 0.6] and (0.6, 0.7] have accuracy 1.
    expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.6) + abs(1 - 0.7)) / 4
    np.testing.assert_allclose(metrics.expected_calibration_error(labels, probs, bins=10), expected)


def test_a_confidence_on_an_edge_counts_below_it():
    """Two bins: 0.5 and 0.375 are in the first one, in which one of two is right, 0.75 is alone in the second."""
    probs = np.array([[0.5, 0.25, 0.25], [0.375, 0.3125, 0.3125], [0.125, 0.125, 0.75]])
    labels = np.array([0, 1, 2])
    expected = (abs(1 - 0.5 - 0.375) + (1 - 0.75)) / 3
    assert metrics.expected_calibration_error(labels, probs, bins=2) == expected


def test_softmax_of_large_logits():
    np.testing.assert_allclose(metrics.softmax(np.array([[1e4, 1e4], [0.0, np.log(3)]])), [[0.5, 0.5], [0.25, 0.75]])


def test_perfectly_calibrated_and_certain():
    assert metrics.expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0


def coins(clips, seed=0):
    """Labels of two classes, and predictions that are right three times in four."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, clips)
    predictions = np.where(rng.random(clips) < 0.75, labels, 1 - labels)
    return labels, np.eye(2)[predictions]


def test_the_interval_is_that_of_a_plain_bootstrap():
    labels, scores = coins(60)
    fold_of, groups = np.arange(60) % 2, np.arange(60) // 3
    rng, drawn = np.random.default_rng(1), []
    for _ in range(1000):
        clips = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 20, 20)])
        parts = [clips[fold_of[clips] == fold] for fold in (0, 1)]
        drawn.append(np.mean([metrics.waf(labels[part], scores[part]) for part in parts]))
    interval = metrics.waf_interval(labels, scores, groups, fold_of)
    np.testing.assert_allclose(interval, np.quantile(drawn, [0.025, 0.975]), atol=0.03)


def test_clips_of_few_groups_say_less():
    """Ten clips of a group that are all alike count as one."""
    labels, scores = coins(400)
    alone = metrics.waf_interval(labels, scores, np.arange(400))
    repeated = labels.repeat(10), scores.repeat(10, axis=0)
    grouped = metrics.waf_interval(*repeated, np.arange(400).repeat(10))
    np.testing.assert_allclose(grouped, alone, atol=0.01)
    low, high = metrics.waf_interval(*repeated, np.arange(4000))
    assert (high - low) < 0.4 * (alone[1] - alone[0])
    assert 0.06 < alone[1] - alone[0] < 0.11  # of 400 coins: 2 x 1.96 x sqrt(0.75 x 0.25 / 400) = 0.085
    assert metrics.waf_interval(labels, scores, np.zeros(400)) is None


def test_subsets_by_hand():
    assert metrics.subsets_of("ab") == [("a",), ("b",), ("a", "b")]
