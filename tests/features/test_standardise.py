"""Standardised features: statistics of present clips alone, per fold where features are."""

import numpy as np
import pytest

from mer_jax.features.embeddings import Rows
from mer_jax.features.standardise import Standardiser, within_groups
from mer_jax.runtime.kept import Damaged


def test_present_clips_have_zero_mean_and_unit_variance():
    rng = np.random.default_rng(0)
    features = {
        "speech": rng.normal(5, 3, (40, 4)).astype(np.float32),
        "video": rng.normal([[[1.0]], [[9.0]]], [[[2.0]], [[0.1]]], (2, 40, 3)).astype(np.float32),
    }
    features["speech"][:, 3] = 7  # never changes
    present = {"speech": rng.random(40) < 0.7, "video": np.ones(40, bool)}
    features["speech"][~present["speech"]] = 1e6  # must not count
    scaled = Standardiser.fit(features, present)(features)
    speech = scaled["speech"][present["speech"]]
    np.testing.assert_allclose(speech.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(speech.std(0), [1, 1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(scaled["video"].mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(scaled["video"].std(1), 1, atol=1e-4)


def test_statistics_by_hand():
    features = {"speech": np.array([[1.0, 5], [3, 5], [100, -100], [8, 5]], np.float32)}
    fitted = Standardiser.fit(features, {"speech": np.array([True, True, False, True])})
    np.testing.assert_allclose(fitted.mean["speech"], [4, 5])
    np.testing.assert_allclose(fitted.scale["speech"], [1 / np.sqrt((9 + 1 + 16) / 3), 1])
    np.testing.assert_allclose(fitted({"speech": np.array([[10.0, 7]])})["speech"], [[6 / np.sqrt(26 / 3), 2]])


def test_clips_count_alike_in_batches_of_any_size():
    """More than are read at once: a full batch, another one with few clips that count, and a part of one."""
    x = np.random.default_rng(0).normal(size=(2500, 3)) + np.arange(2500)[:, None] / 500
    present = np.ones(2500, bool)
    present[1024:2000] = False
    fitted = Standardiser.fit({"text": x}, {"text": present})
    np.testing.assert_allclose(fitted.mean["text"], x[present].mean(0), rtol=1e-6)
    np.testing.assert_allclose(fitted.scale["text"], 1 / x[present].std(0), rtol=1e-6)


def test_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(1)
    features = {"speech": rng.normal(size=(9, 2)), "video": rng.normal(size=(3, 9, 2))}
    fitted = Standardiser.fit(features, dict.fromkeys(features, np.ones(9, bool)))
    fitted.save(tmp_path / "s.safetensors")
    loaded = Standardiser.load(tmp_path / "s.safetensors", {"speech": 2, "video": 2})
    for modality, x in fitted(features).items():
        np.testing.assert_array_equal(loaded(features)[modality], x)


def test_statistics_that_are_not_the_ensembles_are_refused(tmp_path):
    Standardiser.identity({"text": 3}).save(tmp_path / "s.safetensors")
    for dims in ({"text": 4}, {"speech": 3}, {}):
        with pytest.raises(Damaged, match=r"s\.safetensors: statistics of other features"):
            Standardiser.load(tmp_path / "s.safetensors", dims)
    (tmp_path / "s.safetensors").write_bytes(b"")
    with pytest.raises(Damaged, match=r"s\.safetensors: not whole statistics"):
        Standardiser.load(tmp_path / "s.safetensors", {"text": 3})


def test_identity():
    features = {"text": np.arange(6.0).reshape(2, 3)}
    np.testing.assert_array_equal(Standardiser.identity({"text": 3})(features)["text"], features["text"])


Z = np.array([[1.0, 0], [3, 2], [100, 100], [5, -4], [7, 7]], np.float32)
GROUPS = ("a", "a", "a", None, "b")


def test_within_groups_by_hand():
    """The third clip of group a is absent, b has a single one; five of mean 0 and variance 1 are added to each."""
    moved = within_groups({"text": Z}, {"text": np.array([1, 1, 0, 1, 1], bool)}, GROUPS)["text"]
    shift, scale = np.array([4 / 7, 2 / 7]), np.sqrt(7 / np.array([2 + 5, 2 + 5]))
    np.testing.assert_allclose(moved[:2], (Z[:2] - shift) * scale, rtol=1e-5)
    np.testing.assert_array_equal(moved[3], Z[3])
    np.testing.assert_allclose(moved[4], (Z[4] - 7 / 6) * np.sqrt(6 / 5), rtol=1e-5)


def test_copies_are_moved_with_their_group_and_have_no_say_in_it():
    present = np.ones(3, bool)
    whole = within_groups({"text": Z[:3]}, {"text": present}, ("a", "a", "a"), count=2)["text"]
    np.testing.assert_allclose(whole[:2], within_groups({"text": Z[:2]}, {"text": present[:2]}, ("a", "a"))["text"])
    np.testing.assert_allclose(whole[2] - whole[1], (Z[2] - Z[1]) * (whole[1] - whole[0]) / (Z[1] - Z[0]), rtol=1e-5)


def test_each_fold_and_features_on_disk_are_moved_alike():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 6, 3)).astype(np.float32)
    groups, present = ("a", "b", "a", None, "b", "a"), {"video": np.array([1, 1, 1, 1, 0, 1], bool)}
    whole = within_groups({"video": z}, present, groups)["video"]
    for fold in range(2):
        np.testing.assert_allclose(whole[fold], within_groups({"video": z[fold]}, present, groups)["video"], rtol=1e-6)
    order = np.array([5, 0, 3, 1, 4, 2])  # in the file
    stored = Rows(lambda rows: z[:, np.argsort(order)][:, rows], order, (2,), 3)
    np.testing.assert_array_equal(stored[..., 0:6, :], z[:, np.argsort(order)][:, order])
    lazy = within_groups({"video": Rows(lambda rows: z[:, rows], np.arange(6), (2,), 3)}, present, groups)["video"]
    np.testing.assert_allclose(lazy[..., 0:6, :], whole, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(lazy.take(np.array([4, 2]))), whole[:, [4, 2]], rtol=1e-6)


def test_without_groups_nothing_changes():
    assert within_groups({"text": Z}, {"text": np.ones(5, bool)}, [None] * 5)["text"] is Z


def test_features_that_never_change_are_counted():
    x = np.array([[1.0, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 9]], np.float32)
    features = {"speech": x, "video": np.stack([x, x + 1])}
    fitted = Standardiser.fit(features, dict.fromkeys(features, np.ones(3, bool)))
    assert fitted.constant == {"speech": 0.75, "video": 0.75}
