"""Zero mean and unit variance per feature, so that encoders of any scale meet on equal terms in fusion.

The paper and the baseline feed raw features. `config.fusion.standardise=False` does.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save

from mer_jax.features.embeddings import Embedded, Rows
from mer_jax.features.pooling import merge_mean_variance
from mer_jax.runtime.files import write_whole

_BATCH = 1024  # clips that are read at once


class Standardiser(NamedTuple):
    """Statistics per modality, [D], or [F, 1, D] where each fold has features of its own."""

    mean: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]  # 1 / standard deviation; 1 for a feature that never changes

    @classmethod
    def fit(cls, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray]) -> "Standardiser":
        """features: [N, D] or [F, N, D] per modality, read in batches; present: [N] bool, the clips that count."""
        mean, scale = {}, {}
        for modality, x in features.items():
            counts, pooled = [], []
            for start in range(0, len(present[modality]), _BATCH):
                clips = slice(start, start + _BATCH)
                real = x[..., clips, :][..., present[modality][clips], :].astype(np.float64)
                if real.shape[-2]:
                    counts.append(real.shape[-2])
                    pooled.append(np.concatenate([real.mean(axis=-2).ravel(), real.var(axis=-2).ravel()]))
            average, variance = np.split(merge_mean_variance(np.array(counts), np.stack(pooled)), 2)
            shape = (x.shape[0], 1, x.shape[-1]) if x.ndim == 3 else x.shape[-1:]
            deviation = np.sqrt(variance)
            mean[modality] = average.reshape(shape)
            scale[modality] = (1 / np.where(deviation > 1e-6, deviation, 1)).astype(np.float32).reshape(shape)
        return cls(mean, scale)

    @classmethod
    def identity(cls, dims: Mapping[str, int]) -> "Standardiser":
        """Leaves features as they are."""
        zeros, ones = ({name: fill(width, np.float32) for name, width in dims.items()} for fill in (np.zeros, np.ones))
        return cls(zeros, ones)

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        tensors = {f"{part}.{modality}": x for part in self._fields for modality, x in getattr(self, part).items()}
        with write_whole(path, mode="wb") as file:
            file.write(save({name: np.ascontiguousarray(x) for name, x in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "Standardiser":
        """Reads what `save` wrote."""
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in cls._fields}
        for name, x in load_file(path).items():
            part, _, modality = name.partition(".")
            parts[part][modality] = x
        return cls(**parts)

    def __call__(self, features: Mapping[str, Embedded]) -> dict[str, Embedded]:
        """Standardised features, shapes as they came; those on disk stay there."""

        def scaled(x: np.ndarray, modality: str) -> np.ndarray:
            return (x - self.mean[modality]) * self.scale[modality]

        return {
            modality: x.map(partial(scaled, modality=modality)) if isinstance(x, Rows) else scaled(x, modality)
            for modality, x in features.items()
        }
