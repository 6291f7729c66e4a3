"""The files a challenge takes: one row per candidate, matched by name."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import write_csv


def write_predictions(path: str | Path, names: Sequence[str], labels: Sequence[str]) -> None:
    """Writes `name,discrete`, in the order given. A name given twice is a `DataError`."""
    write_csv(path, ["name", "discrete"], zip(_unique(names, path), labels, strict=True))


def write_probabilities(path: str | Path, names: Sequence[str], probs: np.ndarray, labels: Sequence[str]) -> None:
    """Writes `name,<label>,...` with six decimals; `probs` [N, C] in the order of `names` and `labels`."""
    rows = np.asarray(probs)
    if rows.shape != (len(names), len(labels)):
        raise ValueError(f"probs has shape {rows.shape}, expected {(len(names), len(labels))}")
    cells = ([name, *(f"{p:.6f}" for p in row)] for name, row in zip(_unique(names, path), rows, strict=True))
    write_csv(path, ["name", *labels], cells)


def _unique(names: Sequence[str], path: str | Path) -> Sequence[str]:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{path}: {len(twice)} clips would be listed more than once ({', '.join(twice[:5])}); "
            "a submission needs each name once: remove the duplicate rows from the candidate list"
        )
    return names
