"""Scores that scikit-learn lacks, or that run inside compiled training."""

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


def waf(labels: np.ndarray, probs: np.ndarray) -> float:
    """Support-weighted F1 of probabilities [N, C] against labels [N]."""
    return float(weighted_f1(labels, probs.argmax(-1), probs.shape[1]))


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
