"""Zero mean and unit variance per feature, so that encoders of any scale meet on equal terms in fusion.

The paper and the baseline feed raw features. `config.fusion.standardise=False` does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save

from mer_jax.files import write_whole


class Standardiser(NamedTuple):
    """Statistics per modality, [D], or [F, 1, D] where each fold has features of its own."""

    mean: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]  # 1 / standard deviation; 1 for a feature that never changes

    @classmethod
    def fit(cls, features: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]) -> "Standardiser":
        """features: [N, D] or [F, N, D] per modality; present: [N] bool, the clips that count."""
        mean, scale = {}, {}
        for modality, x in features.items():
            real = x[..., present[modality], :].astype(np.float64)
            keep = x.ndim == 3
            deviation = real.std(axis=-2, keepdims=keep)
            mean[modality] = real.mean(axis=-2, keepdims=keep).astype(np.float32)
            scale[modality] = (1 / np.where(deviation > 1e-6, deviation, 1)).astype(np.float32)
        return cls(mean, scale)

    @classmethod
    def identity(cls, dims: Mapping[str, int]) -> "Standardiser":
        """Leaves features as they are."""
        return cls(
            {modality: np.zeros(width, np.float32) for modality, width in dims.items()},
            {modality: np.ones(width, np.float32) for modality, width in dims.items()},
        )

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        tensors = {f"{part}.{modality}": x for part in self._fields for modality, x in getattr(self, part).items()}
        with write_whole(path, mode="wb") as file:
            file.write(save({name: np.ascontiguousarray(x) for name, x in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "Standardiser":
        """Reads what `save` wrote."""
        tensors = load_file(path)
        parts = [
            {name.removeprefix(f"{part}."): x for name, x in tensors.items() if name.startswith(f"{part}.")}
            for part in cls._fields
        ]
        return cls(*parts)

    def __call__(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Standardised features, shapes as they came."""
        return {modality: (x - self.mean[modality]) * self.scale[modality] for modality, x in features.items()}
