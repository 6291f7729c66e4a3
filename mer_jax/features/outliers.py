"""Embeddings that cannot be right: so much larger than the others that they alone would decide every mean."""

import sys
from dataclasses import replace

import numpy as np

from mer_jax.features.embeddings import Features, Rows

TIMES = 1e4  # the size of the clip in the middle; those of the sample stay within 3
LARGEST = 1e15  # that float32 can still square and sum
_BATCH = 1024  # clips that are read at once


def without_outliers(features: Features, modality: str, usual: float = 0.0) -> Features:
    """The features and their usual size, with those absent whose largest value is TIMES as large, or beyond LARGEST.

    usual: that of the clips that a run has learned from; 0: of these.
    """
    x, present = features.embeddings, features.present
    sizes = np.zeros(len(present))
    for start in range(0, len(present), _BATCH):
        values = np.abs(np.asarray(x[..., start : start + _BATCH, :], np.float64)).max(axis=-1, initial=0)
        sizes[start : start + _BATCH] = values if values.ndim == 1 else values.max(axis=0)  # over folds
    usual = usual or (float(np.median(sizes[present])) if present.any() else 0.0)
    features = replace(features, usual_size=usual)
    outlying = present & (sizes > min(TIMES * usual or LARGEST, LARGEST))
    if not outlying.any():
        return features
    reasons = dict(features.reasons)
    for i in np.flatnonzero(outlying).tolist():
        compared = f"out of all proportion to the others' ({usual:.3g})" if sizes[i] <= LARGEST else "no embedding's"
        reasons[i] = f"its largest value ({sizes[i]:.3g}) is {compared}"
    count = f"{outlying.sum():,} of {len(present):,}"
    print(f"  {count} {modality} embeddings hold values out of all proportion: absent", file=sys.stderr)

    def zeroed(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return np.where(outlying[positions][:, None], np.float32(0), values)

    embeddings = x.map_with_positions(zeroed) if isinstance(x, Rows) else zeroed(x, np.arange(len(present)))
    return replace(features, embeddings=embeddings, present=present & ~outlying, reasons=reasons)
