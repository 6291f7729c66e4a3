"""How far a clip's features are from those that a run has learned from.

The Mahalanobis distance of probabilistic PCA (Tipping and Bishop 1999): along the directions in which the training
clips differ most it counts in their deviations, across these in what leaves their plane. One is what the furthest of
the training clips come to, with statistics in which these had no say.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mer_jax.defaults import MODALITIES
from mer_jax.features.embeddings import Embedded
from mer_jax.runtime.files import write_whole
from mer_jax.runtime.kept import Damaged

FAMILIAR = "training_features.safetensors"  # among a run's checkpoints
COMBINATIONS = "combinations"  # the tensor beside the clouds'
MOST = 2000  # training clips that are looked at
LEAST = 20  # clips, below which nothing is said of a modality
DIRECTIONS = 128
PARTS = 4  # of the training clips, each judged by the others
SHARE = 0.999  # of the training clips, that come to less than one
FLOOR = 1e-3  # least variance along a direction, where that of a feature is 1


class Cloud(NamedTuple):
    """One stream's training clips."""

    mean: np.ndarray  # [D] float32
    scale: np.ndarray  # [D], 1 / deviation; 1 for a feature that never changes
    directions: np.ndarray  # [K, D], orthonormal
    variances: np.ndarray  # [K], along them
    across: np.ndarray  # [1], variance along each of the other directions
    typical: np.ndarray  # [1], the distance that SHARE of the clips stay within

    @classmethod
    def fit(cls, x: np.ndarray) -> "Cloud":
        """x: [N, D], LEAST clips or more."""
        part = np.arange(len(x)) % PARTS
        unseen = [cls.of(x[part != each]).distance(x[part == each]) for each in range(PARTS)]
        typical = np.quantile(np.concatenate(unseen), SHARE)
        return cls.of(x)._replace(typical=np.array([max(typical, 1e-6)], np.float32))

    @classmethod
    def of(cls, x: np.ndarray) -> "Cloud":
        """That of clips [N, D], whose usual distance is not known yet."""
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        scale = 1 / np.where(deviation > 1e-6, deviation, 1)
        _, sizes, directions = np.linalg.svd((x - mean) * scale, full_matrices=False)
        variances = np.square(sizes) / len(x)
        others = variances[DIRECTIONS:].sum() / max(1, x.shape[1] - DIRECTIONS)
        parts = mean, scale, directions[:DIRECTIONS], variances[:DIRECTIONS] + FLOOR, [others + FLOOR], [1.0]
        return cls(*(np.asarray(each, np.float32) for each in parts))

    def distance(self, x: np.ndarray) -> np.ndarray:
        """[N], of clips [N, D]."""
        centred = (x - self.mean) * self.scale
        along = np.square(centred @ self.directions.T)
        across = np.maximum(np.square(centred).sum(axis=1) - along.sum(axis=1), 0)
        square = (along / self.variances).sum(axis=1) + across / self.across
        return np.sqrt(square / x.shape[1]) / self.typical


class Familiar(NamedTuple):
    """What the clips that a run has learned from are like."""

    clouds: Mapping[str, Cloud]  # of each stream that LEAST clips have
    combinations: frozenset[frozenset[str]]  # of streams, that clips had

    @classmethod
    def fit(cls, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray]) -> "Familiar":
        """features: [N, D] or [F, N, D] per stream, raw; of folds the first one's. present: [N] bool, who counts."""
        clouds = {}
        for modality, x in features.items():
            clips = np.flatnonzero(present[modality])
            clips = clips[np.linspace(0, len(clips) - 1, min(MOST, len(clips))).astype(int)]
            if len(clips) >= LEAST:
                clouds[modality] = Cloud.fit(first_fold(x.take(clips, axis=-2)))
        rows = np.unique(np.stack(list(present.values()), axis=1), axis=0)
        return cls(clouds, frozenset(frozenset(m for m, x in zip(present, row, strict=True) if x) for row in rows))

    def distances(self, features: Mapping[str, Embedded], present: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
        """Of each clip, the distance of each modality that it has. Arguments as of `fit`."""
        of = {m: cloud.distance(first_fold(features[m])) for m, cloud in self.clouds.items() if present[m].any()}
        count = len(next(iter(present.values())))
        return [{m: float(x[i]) for m, x in of.items() if present[m][i]} for i in range(count)]

    def save(self, path: Path) -> None:
        """Writes a safetensors file."""
        tensors = {f"{name}.{part}": x for name, cloud in self.clouds.items() for part, x in cloud._asdict().items()}
        columns = columns_of(set().union(*self.combinations))
        seen = sorted([stream in names for stream in columns] for names in self.combinations)
        tensors[COMBINATIONS] = np.array(seen, np.uint8)
        with write_whole(path, mode="wb") as file:
            file.write(save({name: np.ascontiguousarray(x) for name, x in tensors.items()}))

    @classmethod
    def load(cls, path: Path, streams: Collection[str] = ()) -> "Familiar | None":
        """What `save` wrote of a run of these streams; None where an earlier version trained it. Raises Damaged."""
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
            seen = tensors.pop(COMBINATIONS).astype(bool)
            columns = columns_of(streams)
            combinations = frozenset(frozenset(m for m, x in zip(columns, row, strict=True) if x) for row in seen)
            names = dict.fromkeys(name.partition(".")[0] for name in tensors)
            clouds = {name: Cloud(*(tensors[f"{name}.{part}"] for part in Cloud._fields)) for name in names}
        except (SafetensorError, KeyError, ValueError) as error:
            raise Damaged(f"{path}: not whole statistics of features ({error!r})") from error
        return cls(clouds, combinations)


def columns_of(streams: Collection[str]) -> list[str]:
    """The order of combinations in a file."""
    return [*MODALITIES, *sorted({*streams} - {*MODALITIES})]


def first_fold(x: Embedded) -> np.ndarray:
    """[N, D] float64 of features [N, D] or [F, N, D]."""
    values = np.asarray(x, np.float64)
    return values if values.ndim == 2 else values[0]
