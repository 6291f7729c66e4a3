"""Zero mean and unit variance per feature, so that encoders of any scale meet on equal terms in fusion.

This is ours: the paper and the baseline feed raw features, as `config.fusion.standardise="none"` does.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mer_jax.features.embeddings import Embedded, Rows
from mer_jax.features.pooling import merge_mean_variance
from mer_jax.runtime.files import write_whole
from mer_jax.runtime.kept import Damaged

_BATCH = 1024  # clips that are read at once
_PRIOR = 5  # clips of zero mean and unit variance that are added to every group


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

    @property
    def constant(self) -> dict[str, float]:
        """Share of each modality's features that never change."""
        return {modality: float((scale == 1).mean()) for modality, scale in self.scale.items()}

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        tensors = {f"{part}.{modality}": x for part in self._fields for modality, x in getattr(self, part).items()}
        with write_whole(path, mode="wb") as file:
            file.write(save({name: np.ascontiguousarray(x) for name, x in tensors.items()}))

    @classmethod
    def load(cls, path: Path, dims: Mapping[str, int]) -> "Standardiser":
        """Reads what `save` wrote. Raises Damaged where it is not of features of these widths."""
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in cls._fields}
        try:
            for name, x in load_file(path).items():
                part, _, modality = name.partition(".")
                parts[part][modality] = x
        except (SafetensorError, KeyError) as error:
            raise Damaged(f"{path}: not whole statistics of features ({error!r})") from error
        widths = {modality: (width,) for modality, width in dims.items()}
        if any({modality: x.shape[-1:] for modality, x in part.items()} != widths for part in parts.values()):
            raise Damaged(f"{path}: statistics of other features than the ensemble's")
        return cls(**parts)

    def __call__(self, features: Mapping[str, Embedded]) -> dict[str, Embedded]:
        """Standardised features, shapes as they came; those on disk stay there."""

        def scaled(x: np.ndarray, modality: str) -> np.ndarray:
            return (x - self.mean[modality]) * self.scale[modality]

        return {
            modality: x.map(partial(scaled, modality=modality)) if isinstance(x, Rows) else scaled(x, modality)
            for modality, x in features.items()
        }


def within_groups(
    features: Mapping[str, Embedded],
    present: Mapping[str, np.ndarray],
    groups: Sequence[str | None],
    count: int | None = None,
) -> dict[str, Embedded]:
    """Standardised features once more, within each group (a speaker, a dialogue): what all its clips share is gone.

    No label is read. It leans on groups whose classes are mixed: of clips of one class it takes the class away, too.
    Groups of few clips change little, as each counts as `_PRIOR` clips more that are like all others.

    Args:
        features: [N, D] or [F, N, D] per modality, standardised; those on disk are read once and stay there.
        present: [N] bool.
        groups: [N], None where a clip has none and stays as it is.
        count: the first clips, that have a say in what their groups are like; default all.
    """
    named = np.array([group is not None for group in groups], bool)
    group_of = np.full(len(groups), -1)
    group_of[named] = np.unique([group for group in groups if group is not None], return_inverse=True)[1]
    counted = named & (np.arange(len(groups)) < (len(groups) if count is None else count))
    return {
        modality: _within(x, group_of, np.flatnonzero(counted & present[modality])) if named.any() else x
        for modality, x in features.items()
    }


def _within(x: Embedded, group_of: np.ndarray, counted: np.ndarray) -> Embedded:
    """One modality; group_of: [N] int, -1 for none; counted: positions of the clips that say what groups are like."""
    sums = np.zeros((2, group_of.max() + 1, *x.shape[:-2], x.shape[-1]))  # of values and squares, [2, G, (F,) D]
    clips = np.zeros((len(sums[0]), *[1] * (sums.ndim - 2)))
    np.add.at(clips, group_of[counted], 1)
    for start in range(0, len(counted), _BATCH):
        some = counted[start : start + _BATCH]
        values = np.moveaxis(np.asarray(x.take(some, axis=-2), np.float64), -2, 0)
        np.add.at(sums[0], group_of[some], values)
        np.add.at(sums[1], group_of[some], values**2)
    total, squares = sums
    scatter = squares - total**2 / np.maximum(clips, 1)
    shift = (total / (clips + _PRIOR)).astype(np.float32)
    scale = np.sqrt((clips + _PRIOR) / (np.maximum(scatter, 0) + _PRIOR)).astype(np.float32)

    def moved(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        groups = group_of[positions]
        of_clip = [np.moveaxis(part[groups], 0, -2) for part in (shift, scale)]
        return np.where((groups >= 0)[:, None], (values - of_clip[0]) * of_clip[1], values)

    return x.map_with_positions(moved) if isinstance(x, Rows) else moved(x, np.arange(len(group_of)))
