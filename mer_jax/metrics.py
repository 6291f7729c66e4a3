"""Scores that scikit-learn lacks, or that run inside compiled training."""

from collections.abc import Sequence
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def weighted_f1(labels: Array, predictions: Array, num_classes: int, mask: Array | None = None) -> jax.Array:
    """WAF, the challenge's metric: per-class F1 averaged by support, in [0, 1].

    Equals scikit-learn's `f1_score(average="weighted", zero_division=0)`. Can be compiled and batched.

    Args:
        labels, predictions: [N] int in [0, num_classes).
        mask: [N] bool, the entries that count; None counts all.
    """
    counted = jnp.ones(labels.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
    true = jax.nn.one_hot(labels, num_classes) * counted[:, None]  # [N, C]
    guess = jax.nn.one_hot(predictions, num_classes) * counted[:, None]
    support, guessed, hits = true.sum(0), guess.sum(0), (true * guess).sum(0)
    f1 = 2 * hits / jnp.maximum(support + guessed, 1)
    return (f1 * support).sum() / jnp.maximum(support.sum(), 1)


def waf(labels: np.ndarray, scores: np.ndarray) -> float:
    """Support-weighted F1 of logits or probabilities [N, C] against labels [N]."""
    return float(weighted_f1(labels, scores.argmax(-1), scores.shape[1]))


def waf_interval(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, fold_of: np.ndarray | None = None, draws: int = 2000
) -> tuple[float, float] | None:
    """95 % interval of the mean of the folds' WAF, by a bootstrap over groups; None if there is only one.

    Args:
        labels: [N] int. scores: [N, C], logits or probabilities.
        groups: [N] of any type that sorts; clips of one are drawn together. As many groups as clips: over clips.
        fold_of: [N] int; None takes all clips as one fold.
    """
    classes, fold_of = scores.shape[1], np.zeros(len(labels), int) if fold_of is None else fold_of
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    counts = np.zeros((len(names), fold_of.max() + 1, classes, classes))  # a confusion matrix of each group and fold
    np.add.at(counts, (group_of, fold_of, labels, scores.argmax(-1)), 1)
    rng, n = np.random.default_rng(0), len(names)
    drawn = np.concatenate(  # [draws, folds, C, C], in parts that do not fill the memory
        [np.tensordot(rng.multinomial(n, np.full(n, 1 / n), size=100), counts, 1) for _ in range(draws // 100)]
    )
    support, predicted, hits = drawn.sum(-1), drawn.sum(-2), np.diagonal(drawn, axis1=-2, axis2=-1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    clips = support.sum(-1)
    fold_wafs = np.where(clips > 0, (f1 * support).sum(-1) / np.maximum(clips, 1), np.nan)  # a fold may not be drawn
    low, high = np.nanquantile(np.nanmean(fold_wafs, axis=1), [0.025, 0.975])
    return float(low), float(high)


def subsets_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset but the empty one, the small ones first."""
    return [subset for size in range(1, len(names) + 1) for subset in combinations(names, size)]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    raised = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def expected_calibration_error(labels: np.ndarray, probs: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width (Guo et al. 2017, Eq. 3).

    `labels` [N] int, `probs` [N, C] with rows that sum to one.
    """
    confidence = probs.max(axis=-1)
    correct = probs.argmax(axis=-1) == labels
    of_bin = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are open on the left
    gap = np.bincount(of_bin, weights=correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(gap).sum() / len(labels))
