"""The extraction loop: batches, buckets, merging, absences, and continuing after an interruption."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.data.clips import Clip
from mer_jax.extract import extract, ready_made
from mer_jax.features.encoders import Encoder
from mer_jax.features.pooling import mean_variance
from mer_jax.features.readers import Absent, Chunk
from mer_jax.features.store import FeatureStore


@dataclass(frozen=True)
class NumbersReader:
    """A clip named n is n rows of random numbers, in chunks of at most 8; clip 13 has none."""

    def identity(self, clip):
        return clip.name

    def frames(self, clip):
        number = int(clip.name)
        return np.random.default_rng(number).standard_normal((number, 3)).astype(np.float32)

    def __call__(self, clip):
        if clip.name == "13":
            raise Absent("unlucky")
        frames = self.frames(clip)
        return [Chunk(frames[start : start + 8]) for start in range(0, len(frames), 8)]


@pytest.fixture
def encoder():
    def embed(data, lengths):
        return mean_variance(data, lengths), jnp.asarray(lengths)

    return Encoder("numbers", NumbersReader(), "f", lambda: embed, buckets=(4, 8), budget=16)


CLIPS = [Clip(str(number), "train") for number in range(1, 20)]


def read_all(folder, encoder):
    rows, present = FeatureStore(folder).rows([encoder.key(clip) for clip in CLIPS])
    return np.asarray(rows), present


def test_every_clip_gets_its_own_statistics(tmp_path, encoder):
    done = []
    store = FeatureStore(tmp_path)
    extract(CLIPS, encoder, store, shard_size=7, advance=done.append)
    embeddings, present = read_all(tmp_path, encoder)
    assert sum(done) == len(CLIPS) and len(store.shards) == 3
    assert present.tolist() == [clip.name != "13" for clip in CLIPS]
    assert store.reasons == {encoder.key(CLIPS[12]): "unlucky"}
    for clip, row in zip(CLIPS, embeddings, strict=True):
        if clip.name != "13":
            frames = NumbersReader().frames(clip)
            np.testing.assert_allclose(row, np.concatenate([frames.mean(0), frames.var(0)]), atol=1e-6)


def test_an_interrupted_run_continues_bit_for_bit(tmp_path, encoder):
    extract(CLIPS, encoder, FeatureStore(tmp_path / "whole"), shard_size=4)
    seen = 0

    def interrupt(count):
        nonlocal seen
        seen += count
        if seen > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(CLIPS, encoder, FeatureStore(tmp_path / "cut"), shard_size=4, advance=interrupt)
    assert len(FeatureStore(tmp_path / "cut").shards) == 2
    extract(CLIPS, encoder, FeatureStore(tmp_path / "cut"), shard_size=4)
    for whole, cut in zip(read_all(tmp_path / "whole", encoder), read_all(tmp_path / "cut", encoder), strict=True):
        np.testing.assert_array_equal(whole, cut)


def test_nothing_is_computed_twice(tmp_path, encoder):
    extract(CLIPS, encoder, FeatureStore(tmp_path), shard_size=50)
    never = Encoder(**{**vars(encoder), "load": lambda: pytest.fail("loaded the encoder for nothing")})
    extract(CLIPS, never, FeatureStore(tmp_path), shard_size=50)


def test_ready_made_features(tmp_path):
    def clip(name, array):
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return Clip(name, "train", features={"speech": path})

    clips = [
        clip("flat", np.arange(4.0)),
        clip("frames", np.array([[0.0, 2.0], [4.0, 2.0]])),
        clip("narrow", np.zeros(3)),
        clip("infinite", np.array([np.inf, 0, 0, 0])),
        Clip("missing", "train"),
        clip("objects", np.array([{}], object)),
    ]
    keys = ready_made(clips, "speech", FeatureStore(tmp_path / "store"), shard_size=2)
    (tmp_path / "flat.npy").touch()  # read already
    store = FeatureStore(tmp_path / "store")
    assert ready_made(clips[1:], "speech", store, shard_size=2) == keys[1:]
    embeddings, present = store.rows(keys)
    np.testing.assert_array_equal(embeddings[..., :2, :], [[0, 1, 2, 3], [2, 2, 4, 0]])
    assert present.tolist() == [True, True, False, False, False, False] and not embeddings[..., 2:, :].any()
    reasons = [store.reasons[key] for key in keys[2:]]
    for reason, part in zip(reasons, ("wide", "finite", "no ready-made", "cannot be read"), strict=True):
        assert part in reason
