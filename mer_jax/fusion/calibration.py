"""Temperatures (Guo et al. 2017): how much less sure a network is than its logits say, by how much it sees."""

import numpy as np

from mer_jax.metrics import softmax

LEAST, MOST = 0.05, 20.0  # a temperature


def fit_temperatures(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, modalities: int) -> np.ndarray:
    """Temperatures [M] for 1, 2, ..., M present modalities: each the most likely by the clips that have as many.

    Where there are none, that of all clips.

    Args:
        logits: [N, C], of networks that have not seen the clips.
        labels: [N] int.
        counts: [N] int, the present modalities; clips without any do not count.
    """
    some = counts > 0
    of_all = fit_temperature(logits[some], labels[some])
    alike = [counts == count for count in range(1, modalities + 1)]
    return np.array([fit_temperature(logits[clips], labels[clips]) if clips.any() else of_all for clips in alike])


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the labels most likely; logits [N, C], labels [N] int."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels]))

    from scipy.optimize import minimize_scalar

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded").x))


def calibrated(logits: np.ndarray, counts: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """Probabilities [N, C] of logits [N, C] of clips with `counts` [N] present modalities."""
    return softmax(logits / temperatures[np.maximum(counts, 1) - 1, None])
