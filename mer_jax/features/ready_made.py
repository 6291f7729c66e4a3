"""Features that a data set brings, instead of an encoder's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import DROPPED
from mer_jax.data.reading import identity, mapped_array
from mer_jax.features.store import FeatureStore, Row


def ready_made(
    clips: Sequence[Clip],
    modality: str,
    store: FeatureStore,
    *,
    shard_size: int,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Puts the files that the store lacks into it; gives each clip's key there.

    A 1-D array is taken as it is, [T, C] is pooled to mean and variance. The first clip's width is the width. Of a
    clip's corruptions only dropped modalities apply.
    """
    dropped = [bool(clip.corruption) and modality in clip.corruption.dropped for clip in clips]
    keys = [
        f"{clip.name}|{identity(clip.features.get(modality))}" + "|dropped" * gone
        for clip, gone in zip(clips, dropped, strict=True)
    ]
    missing = [i for i, key in enumerate(keys) if key not in store]
    width = store.rows([key for key in keys if key in store])[0].width
    advance(len(clips) - len(missing))
    for start in range(0, len(missing), shard_size):
        rows = []
        for i in missing[start : start + shard_size]:
            if dropped[i]:
                rows.append(Row(keys[i], None, DROPPED))
            else:
                rows.append(read_row(keys[i], clips[i].features.get(modality), width))
            width = width or (0 if rows[-1].embedding is None else rows[-1].embedding.size)
            advance(1)
        store.append(rows, host=jax.process_index())
    return keys


def read_row(key: str, path: Path | None, width: int) -> Row:
    """One file's embedding, or why there is none. width: of the others; 0 if there are none yet."""
    if path is None:
        return Row(key, None, "no ready-made feature")
    try:
        array = np.array(mapped_array(path), np.float32)
    except (Absent, ValueError, TypeError) as error:
        return Row(key, None, str(error))
    if array.ndim == 2 and len(array):
        array = np.concatenate([array.mean(0), array.var(0)])
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        return Row(key, None, f"{path.name} is not a finite [D] or [T, C] array")
    if width and array.size != width:
        return Row(key, None, f"{path.name} is {array.size} wide, the first clip's is {width}")
    return Row(key, array)
