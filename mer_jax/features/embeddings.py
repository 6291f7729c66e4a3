"""Embeddings that stay on disk until they are asked for: a hundred thousand clips never lie in memory at once."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mer_jax.data.clips import NOT_VALID, Clip
from mer_jax.runtime.kept import digest_of


@dataclass(frozen=True)
class Rows:
    """Stands where an array [N, D] would, or [F, N, D] where each fold has rows of its own.

    `rows[..., i:j, :]` and `np.asarray(rows)` read; `take` and `map` do not.
    """

    read: Callable[[np.ndarray], np.ndarray]  # positions [n] int -> [n, D] or [F, n, D] float32
    index: np.ndarray  # [N] int, the positions
    folds: tuple[int, ...]  # () or (F,)
    width: int  # D

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.folds, len(self.index), self.width)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def take(self, index: np.ndarray, axis: int = -2) -> "Rows":
        """The rows at `index`, as of an array."""
        assert axis == -2, "rows lie along the last axis but one"
        return replace(self, index=self.index[index])

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "Rows":
        """Applies `function`, which keeps shapes, to whatever will be read."""
        return replace(self, read=lambda positions: function(self.read(positions)))

    def map_with_positions(self, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> "Rows":
        """`map` of a function that is also given where the rows stand among all of these."""
        everything = np.arange(len(self.index))
        return replace(self, read=lambda rows: function(self.read(self.index[rows]), rows), index=everything)

    def __getitem__(self, key: tuple[Any, slice, slice]) -> np.ndarray:
        _, clips, width = key
        return self.read(self.index[clips])[..., width]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(self.index), dtype)


Embedded = np.ndarray | Rows


@dataclass(frozen=True)
class Features:
    """One modality of every clip of a list: embeddings [N, D], or [F, N, D] with a row per fold; zeros where absent."""

    embeddings: Embedded
    present: np.ndarray  # [N] bool
    reasons: Mapping[int, str]  # position -> why it is absent
    digest: str = ""  # of all that these are
    usual_size: float = 0.0  # the largest value of the clip in the middle; 0: unknown

    @classmethod
    def none(cls, count: int, reason: str) -> "Features":
        """Of `count` clips that all lack the modality."""
        return cls(np.zeros((count, 0), np.float32), np.zeros(count, bool), dict.fromkeys(range(count), reason))

    def among(self, count: int, positions: Sequence[int], reason: str) -> "Features":
        """As of `count` clips, of which these stand at `positions`; the others lack the modality for a reason."""
        at = np.full(count, -1)
        at[positions] = np.arange(len(positions))
        embeddings, folds = self.embeddings, self.embeddings.shape[:-2]

        def read(rows: np.ndarray) -> np.ndarray:
            here = np.flatnonzero(at[rows] >= 0)
            values = np.zeros((*folds, len(rows), embeddings.shape[-1]), np.float32)
            values[..., here, :] = np.asarray(embeddings.take(at[rows[here]], axis=-2))
            return values

        reasons = dict.fromkeys(np.flatnonzero(at < 0).tolist(), reason)
        return replace(
            self,
            embeddings=Rows(read, np.arange(count), folds, embeddings.shape[-1]),
            present=np.append(self.present, False)[at],
            reasons=reasons | {positions[i]: own for i, own in self.reasons.items()},
            digest=digest_of(self.digest, count, list(positions)),
        )

    def absences(self, most: int = 5) -> list[str]:
        """Lines that say why clips, or copies, lack the modality: the `most` usual reasons, and how many have each."""
        counts = Counter(self.reasons.values()).most_common()
        others = sum(count for _, count in counts[most:])
        lines = [f"{count:,} without: {reason}" for reason, count in counts[:most]]
        return [*lines, f"{others:,} without for other reasons"] if others else lines


def of_valid(clips: Sequence[Clip], modality: str, compute: Callable[[Sequence[Clip]], Features]) -> Features:
    """Features of all clips, computed of those alone for which the modality counts."""
    valid = [i for i, clip in enumerate(clips) if not clip.hides(modality)]
    if len(valid) == len(clips):
        return compute(clips)
    return compute([clips[i] for i in valid]).among(len(clips), valid, NOT_VALID)
