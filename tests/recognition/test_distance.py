"""How far clips are from those of the training: by hand, and what is kept of that."""

import numpy as np
import pytest

from mer_jax.recognition import distance as module
from mer_jax.recognition.distance import Cloud, Familiar
from mer_jax.runtime.kept import Damaged


def clips(count, seed=0, shift=0.0):
    """[N, 6], of which the first three vary most, the fourth never."""
    x = np.random.default_rng(seed).standard_normal((count, 6)) * (4, 3, 2, 0, 0.1, 0.1)
    return x + shift


def test_distance_is_mahalanobis_where_all_directions_are_kept():
    x = clips(500)[:, :3]
    cloud = Cloud.of(x)
    y = clips(5, seed=1)[:, :3] * 3
    scaled = (y - x.mean(0)) / x.std(0)
    correlation = np.corrcoef(x.T) + module.FLOOR * np.eye(3)
    expected = np.sqrt(np.einsum("nd,de,ne->n", scaled, np.linalg.inv(correlation), scaled) / 3)
    np.testing.assert_allclose(cloud.distance(y), expected, rtol=1e-4)


def test_what_leaves_the_plane_of_the_training_clips_counts(monkeypatch):
    """A clip that is usual in each feature, but not in how they go together."""
    monkeypatch.setattr(module, "DIRECTIONS", 4)
    x = clips(400)
    x[:, 4] = x[:, 0] + 1e-3 * x[:, 4]
    cloud = Cloud.fit(x)
    usual, odd = x[:1].copy(), x[:1].copy()
    usual[0, [0, 4]] = 4.0
    odd[0, [0, 4]] = 4.0, -4.0
    assert cloud.distance(usual)[0] < 1 < 2 < cloud.distance(odd)[0]


def test_clips_like_those_of_the_training_are_nearer_than_one_and_others_are_not():
    cloud = Cloud.fit(clips(800))
    assert (cloud.distance(clips(300, seed=2)) < 1.2).all()
    assert (cloud.distance(clips(300, seed=2, shift=30.0)) > 2).all()


def test_a_feature_that_never_changes_and_clips_that_are_all_alike_give_numbers():
    x = np.ones((module.LEAST, 3))
    assert np.isfinite(Cloud.fit(x).distance(x)).all()
    assert Cloud.fit(x).distance(x + 1)[0] > Cloud.fit(x).distance(x)[0]


def test_what_is_familiar_is_kept_and_read(tmp_path):
    features = {"speech": clips(40), "video": np.stack([clips(40), clips(40) + 9]), "text": np.ones((40, 2))}
    present = {"speech": np.ones(40, bool), "video": np.arange(40) < 30, "text": np.arange(40) < 5}
    familiar = Familiar.fit(features, present)
    assert set(familiar.clouds) == {"speech", "video"}  # too few clips have text
    everything = frozenset(("speech", "video", "text"))
    assert familiar.combinations == {everything, everything - {"text"}, frozenset({"speech"})}
    familiar.save(tmp_path / "kept.safetensors")
    again = Familiar.load(tmp_path / "kept.safetensors")
    assert again.combinations == familiar.combinations
    distances = again.distances(features, present)
    assert distances == familiar.distances(features, present)
    assert [set(each) for each in (distances[0], distances[39])] == [{"speech", "video"}, {"speech"}]
    np.testing.assert_allclose(distances[0]["video"], Cloud.fit(clips(40)[:30]).distance(clips(40))[0], rtol=1e-5)


def test_an_earlier_run_knows_nothing_and_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "kept.safetensors"
    assert Familiar.load(path) is None
    path.write_bytes(b"no safetensors")
    with pytest.raises(Damaged, match=r"kept.safetensors: not whole statistics"):
        Familiar.load(path)
