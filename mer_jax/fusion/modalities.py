"""From streams to their modalities."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def by_modality(present: Mapping[str, Any], modality_of: Mapping[str, str]) -> dict[str, Any]:
    """Modality -> [N] bool, the clips that have it: any of its streams. present: [N] bool by stream."""
    merged: dict[str, Any] = {}
    for stream, own in present.items():
        modality = modality_of.get(stream, stream)
        merged[modality] = merged[modality] | own if modality in merged else own
    return merged


def attention_by_modality(attention: np.ndarray, modality_of: Mapping[str, str]) -> np.ndarray:
    """[..., M], the sum of the weights [..., S] of each modality's streams; `modality_of` has all, in their order."""
    own = np.array([*modality_of.values()])
    return np.stack([attention[..., own == each].sum(axis=-1) for each in dict.fromkeys(modality_of.values())], axis=-1)
