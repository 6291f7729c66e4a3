"""Clips -> features: one encoder over a list of clips, into the feature store.

Worker processes decode while the device computes, and a shard is written while the next one is under way; a batch
holds chunks of one length bucket, so that few programs are compiled; only pooled embeddings come back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.embeddings import Features
from mer_jax.features.encoder_settings import POOLING
from mer_jax.features.encoders import Embed, Encoder
from mer_jax.features.pooling import merge_mean_variance
from mer_jax.features.readers import Chunk, read_all
from mer_jax.features.store import FeatureStore, Row
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.hosts import meet, own_part
from mer_jax.runtime.profiling import step
from mer_jax.runtime.progress import progress

IN_FLIGHT = 2  # batches on the device: one computes while the next crosses over
FEW = (1, 4, 16, 64, 10**6)  # chunks of a small batch on a copy of the weights; then a full one


def encode(clips: Sequence[Clip], encoder: Encoder, workdir: Path, settings: ExtractionSettings) -> Features:
    """Features of every clip, from the run's store where they are there already. Zeros with a reason where absent."""
    pooled = "" if encoder.pooling == POOLING[0] else f"-{encoder.pooling}"
    folder = workdir / "features" / f"{encoder.modality}-{encoder.fingerprint}{pooled}"
    unit = "clip" if len({clip.name for clip in clips}) == len(clips) else "clip or copy"
    with progress(f"{encoder.modality} features", len(own_part(clips)), unit) as bar:
        extract(clips, encoder, FeatureStore(folder), settings, bar.update)
    meet(folder.name)
    return FeatureStore(folder).features([encoder.key(clip) for clip in clips])


def extract(
    clips: Sequence[Clip],
    encoder: Encoder,
    store: FeatureStore,
    settings: ExtractionSettings,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Computes what the store lacks, a shard at a time; an interrupted run continues at the next shard.

    A clip's bits depend on no other clip, so a continued run, or one on other hosts, computes the same. Of several
    hosts each takes every n-th clip and writes shards of its own. advance: called with clips done.
    """
    part = own_part(clips)
    missing = [(key, clip) for clip in part if (key := encoder.key(clip)) not in store]
    advance(len(part) - len(missing))
    if not missing:
        return
    embed = encoder.load()
    pairs = [(encoder.reader, clip) for _, clip in missing]
    shard_size = settings.shard_clips * encoder.copies
    with closing(read_all(pairs, settings)) as contents, ThreadPoolExecutor(1) as writer:
        written = writer.submit(lambda: None)
        for start in range(0, len(missing), shard_size):
            keys, shard = zip(*missing[start : start + shard_size], strict=True)
            sent = dispatch(islice(contents, len(shard)), encoder, embed, advance)
            for position in sent.reasons:  # which are kept under what the files were like
                if encoder.key(shard[position]) != keys[position]:
                    raise DataError(f"{shard[position].name}: its files have changed while they were read; start again")
            written.result()  # raises what went wrong while writing
            written = writer.submit(write, store, keys, sent)
        written.result()


# Clip positions, embeddings [B, ...] and frame counts [B], perhaps not computed yet.
EmbeddedBatch = tuple[Sequence[int], jax.Array, jax.Array]


class Dispatch:
    """A shard's way to the device: clips are added in order, chunks wait until those of one shape fill a batch.

    small: a batch that is not full is padded to a few chunks where that holds them, and not to a full one: at the price
        of a program more, the quicker answer of a few clips.
    """

    def __init__(self, encoder: Encoder, embed: Embed, small: bool = False):
        self.encoder, self.embed, self.small = encoder, embed, small
        self.batches: list[EmbeddedBatch] = []
        self.reasons: dict[int, str] = {}  # by position, why a clip has none
        self.waiting: dict[tuple[int, ...], list[tuple[int, Chunk]]] = defaultdict(list)

    def add(self, position: int, chunks: list[Chunk] | Absent) -> None:
        """Takes what `read_all` gives for a clip."""
        if isinstance(chunks, Absent):
            self.reasons[position] = str(chunks)
            return
        for chunk in chunks:
            bucket = self.encoder.bucket(chunk)
            shape = (bucket, *chunk.data.shape[1:])
            self.waiting[shape].append((position, chunk))
            if len(self.waiting[shape]) == self.encoder.batch_size(bucket):
                self.flush(shape)

    def flush(self, shape: tuple[int, ...]) -> None:
        """Sends what waits of one shape."""
        positions, chunks = zip(*self.waiting.pop(shape), strict=True)
        size = self.encoder.batch_size(shape[0])
        if self.small:
            each = -(-len(chunks) // self.encoder.copies)
            size = min(size, self.encoder.copies * next(few for few in FEW if few >= each))
        batch = jax.device_put(collate(chunks, shape[0], size), self.encoder.sharding())
        self.batches.append((positions, *step(self.encoder.modality, len(self.batches), self.embed, *batch)))
        if len(self.batches) >= IN_FLIGHT:
            jax.block_until_ready(self.batches[-IN_FLIGHT])  # or inputs would pile up on the device

    def finish(self) -> None:
        """Sends what is left, the largest shapes first.

        Shorter chunks would fill the batches up, but then have other bits than in their own: what a clip's features are
        would depend on what else its host has to do.
        """
        for shape in sorted(self.waiting, reverse=True):
            self.flush(shape)

    def embeddings(self) -> dict[int, np.ndarray | str]:
        """Waits for the device: each clip's embedding by its position, or why there is none."""
        pieces = defaultdict(list)  # clip position -> [(count, embedding)], in the clip's order within a bucket
        for positions, embeddings, counts in jax.device_get(self.batches):
            for row, position in enumerate(positions):
                pieces[position].append((counts[row], embeddings[row]))
        merged: dict[int, np.ndarray | str] = {**self.reasons}
        for position, parts in pieces.items():
            counts, embeddings = zip(*parts, strict=True)
            whole = len(counts) == 1
            embedding = embeddings[0] if whole else merge_mean_variance(np.array(counts), np.stack(embeddings))
            if self.encoder.pooling == "mean":
                embedding = embedding[: len(embedding) // 2]
            finite = np.isfinite(embedding).all()
            merged[position] = embedding if finite else "the encoder gave numbers that are not finite"
        return merged


def dispatch(
    contents: Iterable[list[Chunk] | Absent], encoder: Encoder, embed: Embed, advance: Callable[[int], object]
) -> Dispatch:
    """Sends a whole shard to the device. contents: see `read_all`."""
    shard = Dispatch(encoder, embed)
    for position, chunks in enumerate(contents):
        advance(1)
        shard.add(position, chunks)
    shard.finish()
    return shard


def write(store: FeatureStore, keys: Sequence[str], shard: Dispatch) -> None:
    """Waits for a shard and appends one row per key, in order."""
    embeddings = shard.embeddings()
    rows = [
        Row(key, None, entry) if isinstance(entry := embeddings[position], str) else Row(key, entry)
        for position, key in enumerate(keys)
    ]
    store.append(rows, host=jax.process_index())


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
