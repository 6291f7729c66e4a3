"""Features that a data set brings, instead of an encoder's."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import DROPPED
from mer_jax.data.decoding import ExtractionSettings, identity, mapped_array
from mer_jax.features.embeddings import Features
from mer_jax.features.store import FeatureStore, Row
from mer_jax.runtime.hosts import first_host_first
from mer_jax.runtime.progress import progress

ALL_ZERO = "the ready-made feature is all zero"


def load_ready_made(
    clips: Sequence[Clip], stream: str, workdir: Path, settings: ExtractionSettings, modality: str = ""
) -> Features:
    """Features that the data set brings, pooled once into the run's store. modality: of the stream, if not its name.

    A 1-D array is taken as it is, [T, C] is pooled to mean and variance. Files of another width than the store's, or
    than most of them, are absent, and so is an array of nothing but zeros: the baseline's way of saying that there is
    no face or no transcript. Of a clip's corruptions only dropped modalities apply.
    """
    paths = [clip.features.get(stream) for clip in clips]
    dropped = [bool(clip.corruption) and (modality or stream) in clip.corruption.dropped for clip in clips]
    keys = [
        f"{clip.name}|{identity(path)}" + "|dropped" * gone
        for clip, path, gone in zip(clips, paths, dropped, strict=True)
    ]
    with first_host_first(stream), progress(f"{stream} features", len(clips), "clip") as bar:
        store = FeatureStore(workdir / "features" / f"{stream}-ready-made")
        missing = [i for i, key in enumerate(keys) if key not in store]
        width = store.rows([key for key in keys if key in store])[0].width or usual_width(paths[i] for i in missing)
        bar.update(len(clips) - len(missing))
        for start in range(0, len(missing), settings.shard_clips):
            rows = []
            for i in missing[start : start + settings.shard_clips]:
                rows.append(Row(keys[i], None, DROPPED) if dropped[i] else read_row(keys[i], paths[i], width))
                bar.update(1)
            store.append(rows, host=jax.process_index())
    features = store.features(keys)
    if zeros := list(features.reasons.values()).count(ALL_ZERO):
        print(f"  {zeros:,} of {len(clips):,} {stream} features are all zero: absent", file=sys.stderr)
    return features


def usual_width(paths: Iterable[Path | None]) -> int:
    """The width that most of the files give, from their headers; 0 without any."""
    widths: Counter[int] = Counter()
    for path in paths:
        try:
            array = mapped_array(path) if path else np.zeros(0)
        except Absent:
            continue
        widths[2 * array.shape[1] if array.ndim == 2 else array.size] += array.size > 0
    return widths.most_common(1)[0][0] if widths.total() else 0


def read_row(key: str, path: Path | None, width: int) -> Row:
    """One file's embedding, or why there is none. width: of the others."""
    if path is None:
        return Row(key, None, "no ready-made feature")
    try:
        array = np.array(mapped_array(path, bytes_each=4), np.float32)
    except (Absent, ValueError, TypeError) as error:
        return Row(key, None, str(error))
    if array.size and not array.any():
        return Row(key, None, ALL_ZERO)
    if array.ndim == 2 and len(array):
        array = np.concatenate([array.mean(0), array.var(0)])
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        return Row(key, None, f"{path.name} is not a finite [D] or [T, C] array")
    if array.size != width:
        return Row(key, None, f"{path.name} is {array.size} wide, the other clips' are {width}")
    return Row(key, array)
