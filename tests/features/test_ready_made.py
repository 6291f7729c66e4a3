"""Ready-made features: pooled or frames, and every way in which a file can be wrong."""

import os
from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.clips import Clip
from mer_jax.data.corruptions import DROPPED, Corruption
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features.ready_made import load_ready_made


def test_ready_made_features(tmp_path):
    def clip(name, array):
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return Clip(name, "train", features={"speech": path})

    clips = [
        clip("flat", np.arange(4.0)),
        clip("frames", np.array([[0.0, 2.0], [4.0, 2.0]])),
        clip("narrow", np.ones(3)),
        clip("infinite", np.array([np.inf, 0, 0, 0])),
        Clip("missing", "train"),
        clip("objects", np.array([{}], object)),
        clip("zip", np.zeros(3)),
    ]
    (tmp_path / "zip.npy").write_bytes(b"PK\3\4 no archive either")
    features = load_ready_made(clips, "speech", tmp_path, ExtractionSettings(shard_clips=2))
    np.testing.assert_array_equal(features.embeddings[..., :2, :], [[0, 1, 2, 3], [2, 2, 4, 0]])
    assert features.present.tolist() == [True, True, *[False] * 5] and not features.embeddings[..., 2:, :].any()
    reasons = [features.reasons[i] for i in range(2, 7)]
    for reason, part in zip(reasons, ("wide", "finite", "no ready-made", *["cannot be read"] * 2), strict=True):
        assert part in reason


@pytest.mark.parametrize("zeros", [np.zeros(3), np.zeros((1, 3)), np.zeros((4, 3), np.float16)])
def test_all_zero_is_absent_and_counted(tmp_path, capsys, zeros):
    """The baseline's sign of a clip without face or transcript; one that is zero in part is a feature."""
    some = zeros.copy()
    some.flat[-1] = 1
    for name, array in (("a", zeros), ("b", some), ("c", zeros)):
        np.save(tmp_path / f"{name}.npy", array)
    clips = [Clip(name, "train", features={"text": tmp_path / f"{name}.npy"}) for name in "abc"]
    features = load_ready_made(clips, "text", tmp_path, ExtractionSettings(shard_clips=2))
    assert features.present.tolist() == [False, True, False]
    assert features.reasons[0] == features.reasons[2] == "the ready-made feature is all zero"
    assert "2 of 3 text features are all zero: absent" in capsys.readouterr().err


def test_the_usual_width_counts_not_the_first(tmp_path):
    for name, width in (("a", 3), ("b", 5), ("c", 5)):
        np.save(tmp_path / f"{name}.npy", np.ones(width))
    clips = [Clip(name, "train", features={"speech": tmp_path / f"{name}.npy"}) for name in "abc"]
    features = load_ready_made(clips, "speech", tmp_path, ExtractionSettings(shard_clips=1))
    assert features.present.tolist() == [False, True, True]


def test_a_dropped_modality_is_absent_whatever_file_there_is(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    clean = Clip("a", "test", features={"speech": tmp_path / "a.npy"})
    dropped = replace(clean, corruption=Corruption(0, None, 0.0, 1.0, ("speech",)))
    features = load_ready_made([clean, dropped], "speech", tmp_path, ExtractionSettings(shard_clips=2))
    assert features.present.tolist() == [True, False] and features.reasons == {1: DROPPED}


def test_only_changed_files_are_read_again(tmp_path, monkeypatch):
    paths = {name: tmp_path / f"{name}.npy" for name in "abc"}
    for path in paths.values():
        np.save(path, np.ones(3))
    clips = [Clip(name, "train", features={"text": path}) for name, path in paths.items()]
    load_ready_made(clips, "text", tmp_path, ExtractionSettings(shard_clips=2))
    np.save(paths["b"], np.arange(6.0).reshape(1, 6))  # wider now, once pooled
    np.save(paths["c"], np.full(3, 7.0))
    os.utime(paths["c"], ns=(1, 1))
    read = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda path, **options: read.append(path.stem) or load(path, **options))
    features = load_ready_made(clips, "text", tmp_path, ExtractionSettings(shard_clips=2))
    assert read == ["b", "c"]
    np.testing.assert_array_equal(np.asarray(features.embeddings), [[1] * 3, [0] * 3, [7] * 3])
    assert features.present.tolist() == [True, False, True]
