"""Features that a data set brings, instead of an encoder's."""

from collections.abc import Sequence

import numpy as np

from mer_jax.data.clips import Clip


def ready_made(clips: Sequence[Clip], modality: str) -> tuple[np.ndarray, dict[int, str]]:
    """Features that the data set brings: embeddings [N, D] float32 (zeros where absent), clip position -> reason.

    A 1-D array is taken as it is, [T, C] is pooled to mean and variance. The first clip's width is the width.
    """
    rows: dict[int, np.ndarray] = {}
    reasons: dict[int, str] = {}
    for position, clip in enumerate(clips):
        path = clip.features.get(modality)
        if path is None:
            reasons[position] = "no ready-made feature"
            continue
        try:
            array = np.load(path, allow_pickle=False).astype(np.float32)
        except (ValueError, OSError, EOFError) as error:
            reasons[position] = f"{path.name} cannot be read: {error}"
            continue
        if array.ndim == 2:
            array = np.concatenate([array.mean(0), array.var(0)])
        if array.ndim != 1 or not np.isfinite(array).all():
            reasons[position] = f"{path.name} is not a finite [D] or [T, C] array"
        elif rows and array.shape != next(iter(rows.values())).shape:
            reasons[position] = f"{path.name} is {array.size} wide, the first clip's is not"
        else:
            rows[position] = array
    width = next(iter(rows.values())).size if rows else 0
    embeddings = np.zeros((len(clips), width), np.float32)
    for position, row in rows.items():
        embeddings[position] = row
    return embeddings, reasons
