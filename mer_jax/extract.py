"""Clips -> features: one encoder over a list of clips, into the feature store.

Workers read and decode while the device computes; a batch holds chunks of one length bucket, so that few
programs are compiled; only pooled embeddings come back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import grain.python as grain
import jax
import numpy as np

from mer_jax.data.clips import Clip
from mer_jax.features.encoders import Embed, Encoder, data_sharding
from mer_jax.features.pooling import merge_mean_variance
from mer_jax.features.readers import Chunk, identity, read_or_reason
from mer_jax.features.store import FeatureStore, Row


def extract(
    clips: Sequence[Clip],
    encoder: Encoder,
    store: FeatureStore,
    *,
    shard_size: int,
    workers: int = 0,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Computes what the store lacks, a shard at a time; an interrupted run continues at the next shard.

    Batches never cross a shard, so that a continued run computes the same bits as an uninterrupted one.
    workers: processes that read and decode; 0 uses threads of this one. advance: called with clips done.
    """
    missing = [clip for clip in clips if encoder.key(clip) not in store]
    advance(len(clips) - len(missing))
    if not missing:
        return
    embed = encoder.load()
    for start in range(0, len(missing), shard_size):
        shard = missing[start : start + shard_size]
        store.append(encode_shard(shard, encoder, embed, workers, advance))


def encode_shard(
    clips: Sequence[Clip],
    encoder: Encoder,
    embed: Embed,
    workers: int,
    advance: Callable[[int], object],
) -> list[Row]:
    """One row per clip, in order."""
    reasons: dict[int, str] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Chunk]]] = defaultdict(list)
    computed = []  # (clip positions, embeddings [B, ...], counts [B]), still on the device

    def flush(shape: tuple[int, ...]) -> None:
        positions, chunks = zip(*waiting.pop(shape), strict=True)
        computed.append((positions, *embed(*collate(chunks, shape[0], encoder.batch_size(shape[0])))))

    for position, chunks in enumerate(read_ahead(clips, encoder, workers)):
        advance(1)
        if isinstance(chunks, str):
            reasons[position] = chunks
            continue
        for chunk in chunks:
            bucket = encoder.bucket(chunk)
            shape = (bucket, *chunk.data.shape[1:])
            waiting[shape].append((position, chunk))
            if len(waiting[shape]) == encoder.batch_size(bucket):
                flush(shape)
    for shape in sorted(waiting):
        flush(shape)

    pieces = defaultdict(list)  # clip position -> [(count, embedding)], in the clip's order within a bucket
    for positions, embeddings, counts in jax.device_get(computed):
        for row, position in enumerate(positions):
            pieces[position].append((counts[row], embeddings[row]))
    return [
        Row(encoder.key(clip), None, reasons[position])
        if position in reasons
        else Row(encoder.key(clip), merge(pieces[position]))
        for position, clip in enumerate(clips)
    ]


def merge(pieces: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """A clip's embedding from those of its chunks."""
    counts, embeddings = zip(*pieces, strict=True)
    return embeddings[0] if len(pieces) == 1 else merge_mean_variance(np.array(counts), np.stack(embeddings))


def read_ahead(clips: Sequence[Clip], encoder: Encoder, workers: int) -> Iterator[list[Chunk] | str]:
    """Each clip's chunks or the reason why it has none, in order, read before they are needed."""
    source = grain.MapDataset.source(list(clips)).map(partial(read_or_reason, encoder.reader))
    options = grain.ReadOptions(num_threads=2 if workers == 0 else 1, prefetch_buffer_size=16)
    dataset = source.to_iter_dataset(options)
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(dataset)


def collate(chunks: Sequence[Chunk], bucket: int, batch_size: int) -> list[jax.Array]:
    """Chunks -> (data [B, bucket, ...], lengths [B], *side [B, ...]) over the local devices.

    A batch that is not full repeats its first chunk, whose results nobody reads: no program for an odd size.
    """
    chunks = [*chunks, *[chunks[0]] * (batch_size - len(chunks))]
    data = np.zeros((batch_size, bucket, *chunks[0].data.shape[1:]), chunks[0].data.dtype)
    for row, chunk in enumerate(chunks):
        data[row, : len(chunk.data)] = chunk.data
    lengths = np.array([len(chunk.data) for chunk in chunks], np.int32)
    side = [np.stack(arrays) for arrays in zip(*(chunk.side for chunk in chunks), strict=True)]
    return jax.device_put([data, lengths, *side], data_sharding())


def ready_made(
    clips: Sequence[Clip],
    modality: str,
    store: FeatureStore,
    *,
    shard_size: int,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Features that the data set brings, into the store; each clip's key in it.

    A 1-D array is taken as it is, [T, C] is pooled to mean and variance. The first clip's width is the width.
    """
    keys = [f"{clip.name}|{identity(clip.features.get(modality))}" for clip in clips]
    found, _ = store.rows([key for key in keys if key in store])
    width = found.width
    missing = [i for i, key in enumerate(keys) if key not in store]
    advance(len(clips) - len(missing))
    for start in range(0, len(missing), shard_size):
        rows = []
        for i in missing[start : start + shard_size]:
            row = read_ready_made(keys[i], clips[i].features.get(modality), width)
            width = width if row.embedding is None else row.embedding.size
            rows.append(row)
            advance(1)
        store.append(rows)
    return keys


def read_ready_made(key: str, path: Path | None, width: int) -> Row:
    """One file's embedding, or why there is none. width: of the others, 0 if there are none yet."""
    if path is None:
        return Row(key, None, "no ready-made feature")
    try:
        array = np.load(path, allow_pickle=False).astype(np.float32)
    except (ValueError, OSError, EOFError) as error:
        return Row(key, None, f"{path.name} cannot be read: {error}")
    if array.ndim == 2 and len(array):
        array = np.concatenate([array.mean(0), array.var(0)])
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        return Row(key, None, f"{path.name} is not a finite [D] or [T, C] array")
    if width and array.size != width:
        return Row(key, None, f"{path.name} is {array.size} wide, the first clip's is {width}")
    return Row(key, array)
