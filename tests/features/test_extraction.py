"""The extraction loop: batches, buckets, merging, absences, and continuing after an interruption."""

import errno
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.data.clips import Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.encoders import Encoder
from mer_jax.features.extraction import dispatch, extract
from mer_jax.features.pooling import mean_variance
from mer_jax.features.readers import Absent, Chunk
from mer_jax.features.store import FeatureStore
from mer_jax.runtime.errors import DataError


@dataclass(frozen=True)
class NumbersReader:
    """A clip named n is n rows of random numbers, in chunks of at most 8; clip 13 has none."""

    def decodes(self, clip):
        return False

    def identity(self, clip):
        return clip.name

    def frames(self, clip):
        number = int(clip.name)
        return np.random.default_rng(number).standard_normal((number, 3)).astype(np.float32)

    def read(self, clip):
        if clip.name == "13":
            raise Absent("unlucky")
        return self.frames(clip)

    def chunks(self, frames):
        return [Chunk(frames[start : start + 8]) for start in range(0, len(frames), 8)]


@dataclass(frozen=True)
class DecodingReader(NumbersReader):
    """The same numbers as if media had to be decoded; leaves the number of the process that read them."""

    folder: str

    def decodes(self, clip):
        return True

    def read(self, clip):
        (Path(self.folder) / f"{os.getpid()}.pid").touch()
        return super().read(clip)


@pytest.fixture
def encoder():
    def embed(data, lengths):
        return mean_variance(data, lengths), jnp.asarray(lengths)

    return Encoder("numbers", NumbersReader(), "f", lambda: embed, buckets=(4, 8), budget=16)


CLIPS = [Clip(str(number), "train") for number in range(1, 20)]


def read_all(folder, encoder):
    rows, present = FeatureStore(folder).rows([encoder.key(clip) for clip in CLIPS])
    return np.asarray(rows), present


def test_a_chunk_is_in_a_batch_of_its_own_bucket_whatever_else_there_is(encoder):
    """Of budget 16: three chunks of 4 or fewer rows, and one of 8, whose batch would have room for one of them."""
    contents = [[Chunk(np.ones((rows, 3), np.float32))] for rows in (3, 4, 8, 2)]
    batches = dispatch(contents, encoder, encoder.load(), lambda count: None).batches
    assert [positions for positions, *_ in batches] == [(2,), (0, 1, 3)]
    assert [counts.tolist() for *_, counts in batches] == [[8, 8], [3, 4, 2, 3]]


def test_every_clip_gets_its_own_statistics(tmp_path, encoder):
    done = []
    store = FeatureStore(tmp_path)
    extract(CLIPS, encoder, store, ExtractionSettings(shard_clips=7), advance=done.append)
    embeddings, present = read_all(tmp_path, encoder)
    assert sum(done) == len(CLIPS) and len(store.shards) == 3
    assert present.tolist() == [clip.name != "13" for clip in CLIPS]
    assert store.reasons == {encoder.key(CLIPS[12]): "unlucky"}
    for clip, row in zip(CLIPS, embeddings, strict=True):
        if clip.name != "13":
            frames = NumbersReader().frames(clip)
            np.testing.assert_allclose(row, np.concatenate([frames.mean(0), frames.var(0)]), atol=1e-6)


def test_one_number_that_is_not_finite_makes_a_clip_absent(tmp_path, encoder):
    """Not the others of its batch."""

    def embed(data, lengths):
        embeddings = mean_variance(data, lengths)
        return jnp.where(embeddings == embeddings[1].max(), jnp.nan, embeddings), jnp.asarray(lengths)

    extract(CLIPS[:3], replace(encoder, load=lambda: embed), FeatureStore(tmp_path), ExtractionSettings(shard_clips=3))
    store = FeatureStore(tmp_path)
    assert store.rows([encoder.key(clip) for clip in CLIPS[:3]])[1].tolist() == [True, False, True]
    assert store.reasons == {encoder.key(CLIPS[1]): "the encoder gave numbers that are not finite"}


def test_an_interrupted_run_continues_bit_for_bit(tmp_path, encoder):
    extract(CLIPS, encoder, FeatureStore(tmp_path / "whole"), ExtractionSettings(shard_clips=4))
    seen = 0

    def interrupt(count):
        nonlocal seen
        seen += count
        if seen > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(CLIPS, encoder, FeatureStore(tmp_path / "cut"), ExtractionSettings(shard_clips=4), advance=interrupt)
    assert len(FeatureStore(tmp_path / "cut").shards) == 2
    extract(CLIPS, encoder, FeatureStore(tmp_path / "cut"), ExtractionSettings(shard_clips=4))
    for whole, cut in zip(read_all(tmp_path / "whole", encoder), read_all(tmp_path / "cut", encoder), strict=True):
        np.testing.assert_array_equal(whole, cut)


def test_nothing_is_computed_twice(tmp_path, encoder):
    extract(CLIPS, encoder, FeatureStore(tmp_path), ExtractionSettings(shard_clips=50))
    never = Encoder(**{**vars(encoder), "load": lambda: pytest.fail("loaded the encoder for nothing")})
    extract(CLIPS, never, FeatureStore(tmp_path), ExtractionSettings(shard_clips=50))


def test_worker_processes_read_the_same(tmp_path, encoder):
    extract(CLIPS, encoder, FeatureStore(tmp_path / "threads" / "store"), ExtractionSettings(shard_clips=7))
    decoding = replace(encoder, reader=DecodingReader(str(tmp_path)))
    extract(
        CLIPS, decoding, FeatureStore(tmp_path / "processes" / "store"), ExtractionSettings(shard_clips=7, workers=2)
    )
    readers = {path.name for path in tmp_path.glob("*.pid")}
    assert len(readers) == 2 and f"{os.getpid()}.pid" not in readers
    threads, processes = (
        [path.read_bytes() for path in sorted((tmp_path / folder / "store").iterdir())]
        for folder in ("threads", "processes")
    )
    assert threads == processes and len(threads) == 3


def test_hosts_share_the_work_and_the_store(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for host in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        extract(CLIPS, encoder, FeatureStore(tmp_path / "both"), ExtractionSettings(shard_clips=4))
    names = [path.name for path in sorted((tmp_path / "both").iterdir())]
    assert [name[:3] for name in names] == ["000"] * 3 + ["001"] * 3
    monkeypatch.undo()
    never = Encoder(**{**vars(encoder), "load": lambda: pytest.fail("a clip was left out")})
    extract(CLIPS, never, FeatureStore(tmp_path / "both"), ExtractionSettings(shard_clips=4))
    extract(CLIPS, encoder, FeatureStore(tmp_path / "one"), ExtractionSettings(shard_clips=4))
    both, one = (read_all(tmp_path / folder, encoder)[0] for folder in ("both", "one"))
    np.testing.assert_allclose(both, one, atol=1e-6)


@dataclass(frozen=True)
class FailingReader(NumbersReader):
    """Clip 5 cannot be read: the system's fault, or the file's, which may change meanwhile."""

    number: int
    in_worker: bool = False
    changed: list = field(default_factory=list)

    def decodes(self, clip):
        return self.in_worker

    def identity(self, clip):
        return "".join([clip.name, *self.changed])

    def read(self, clip):
        if clip.name == "5":
            if self.number == errno.ENOENT:
                self.changed.append("gone")
            raise OSError(self.number, os.strerror(self.number), "5.mp4")
        return super().read(clip)


@pytest.mark.parametrize("in_worker", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EMFILE])
def test_no_clip_is_absent_for_ever_because_the_system_failed_once(tmp_path, encoder, number, in_worker):
    failing = replace(encoder, reader=FailingReader(number, in_worker))
    with pytest.raises(OSError, match=r"5\.mp4") as error:
        extract(CLIPS[:9], failing, FeatureStore(tmp_path), ExtractionSettings(shard_clips=2, workers=1))
    assert error.value.errno == number
    assert FeatureStore(tmp_path).where.keys() == {failing.key(clip) for clip in CLIPS[:4]}
    extract(CLIPS[:9], encoder, FeatureStore(tmp_path), ExtractionSettings(shard_clips=2))  # the same keys


def test_a_clip_whose_file_changes_while_it_is_read_is_not_absent_under_its_old_name(tmp_path, encoder):
    failing = replace(encoder, reader=FailingReader(errno.ENOENT))
    with pytest.raises(DataError, match="5: its files have changed while they were read"):
        extract(CLIPS[:9], failing, FeatureStore(tmp_path), ExtractionSettings(shard_clips=9))
    assert not list(tmp_path.iterdir())
