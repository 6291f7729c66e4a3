"""Clips -> features: one encoder over a list of clips, into the feature store.

Workers read and decode while the device computes; a batch holds chunks of one length bucket, so that few
programs are compiled; only pooled embeddings come back.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from multiprocessing import parent_process

import grain.python as grain
import jax
import numpy as np

from mer_jax.data.clips import Clip
from mer_jax.features.encoders import Embed, Encoder
from mer_jax.features.pooling import merge_mean_variance
from mer_jax.features.readers import Chunk, read_or_reason
from mer_jax.features.store import FeatureStore, Row

IN_FLIGHT = 2  # batches on the device: one computes while the next crosses over


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

    Batches never cross a shard, so that a continued run computes the same bits as an uninterrupted one. Of
    several hosts each takes every n-th clip and writes shards of its own.
    workers: processes that read and decode; 0 uses threads of this one. advance: called with clips done.
    """
    own = clips[jax.process_index() :: jax.process_count()]
    missing = [clip for clip in own if encoder.key(clip) not in store]
    advance(len(own) - len(missing))
    if not missing:
        return
    embed = encoder.load()
    with closing(read_ahead(missing, encoder, workers)) as contents:
        for start in range(0, len(missing), shard_size):
            shard = missing[start : start + shard_size]
            rows = encode_shard(shard, islice(contents, len(shard)), encoder, embed, advance)
            store.append(rows, host=jax.process_index())


def encode_shard(
    clips: Sequence[Clip],
    contents: Iterator[list[Chunk] | str],
    encoder: Encoder,
    embed: Embed,
    advance: Callable[[int], object],
) -> list[Row]:
    """One row per clip, in order. contents: each clip's chunks, or the reason why it has none."""
    reasons: dict[int, str] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Chunk]]] = defaultdict(list)
    computed = []  # (clip positions, embeddings [B, ...], counts [B]), still on the device
    sharding = encoder.sharding()

    def flush(shape: tuple[int, ...]) -> None:
        positions, chunks = zip(*waiting.pop(shape), strict=True)
        batch = jax.device_put(collate(chunks, shape[0], encoder.batch_size(shape[0])), sharding)
        computed.append((positions, *embed(*batch)))
        if len(computed) >= IN_FLIGHT:
            jax.block_until_ready(computed[-IN_FLIGHT])  # or inputs would pile up on the device

    for position, chunks in enumerate(contents):
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


def read_ahead(clips: Sequence[Clip], encoder: Encoder, workers: int) -> grain.DatasetIterator:
    """Each clip's chunks or the reason why it has none, in order, read before they are needed."""
    source = grain.MapDataset.source(list(clips)).map(partial(read_or_reason, encoder.reader))
    dataset = source.to_iter_dataset(grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=16))
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=8)
        dataset = dataset.mp_prefetch(options, worker_init_fn=end_with_parent)
    return iter(dataset)


def end_with_parent(index: int, count: int) -> None:
    """Makes a worker process end when its parent is killed; it would wait for ever otherwise."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:  # there always is one; type checkers cannot know
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def collate(chunks: Sequence[Chunk], bucket: int, batch_size: int) -> list[np.ndarray]:
    """Chunks -> data [B, bucket, ...], lengths [B], *side [B, ...].

    A batch that is not full repeats its first chunk, whose results nobody reads: no program for an odd size.
    """
    chunks = [*chunks, *[chunks[0]] * (batch_size - len(chunks))]
    data = np.zeros((batch_size, bucket, *chunks[0].data.shape[1:]), chunks[0].data.dtype)
    for row, chunk in enumerate(chunks):
        data[row, : len(chunk.data)] = chunk.data
    lengths = np.array([len(chunk.data) for chunk in chunks], np.int32)
    side = [np.stack(arrays) for arrays in zip(*(chunk.side for chunk in chunks), strict=True)]
    return [data, lengths, *side]
