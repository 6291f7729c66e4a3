"""The feature store: what is written is read, in any order, also by a later start."""

import numpy as np
import pytest

from mer_jax.features.store import FeatureStore, Row


def test_rows_come_back_by_key(tmp_path):
    store = FeatureStore(tmp_path)
    a, b = np.arange(3, dtype=np.float32), np.ones(3, np.float32)
    store.append([Row("a", a), Row("silent", None, "silent")])
    store.append([Row("b", b)])
    for opened in (store, FeatureStore(tmp_path)):
        embeddings, present = opened.read(["b", "silent", "a"])
        np.testing.assert_array_equal(embeddings, [b, np.zeros(3), a])
        assert present.tolist() == [True, False, True]
        assert opened.reasons == {"silent": "silent"}
        assert "a" in opened and "c" not in opened


def test_a_shard_is_whole_or_absent(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path)
    store.append([Row("a", np.ones(2))])
    monkeypatch.setattr("mer_jax.features.store.save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.append([Row("b", np.ones(2))])
    assert [path.name for path in tmp_path.iterdir()] == ["000-000000.safetensors"]
    assert "b" not in FeatureStore(tmp_path)


def test_same_rows_same_bytes(tmp_path):
    rows = [Row(str(i), np.full(4, i)) for i in range(5)] + [Row("x", None, "no face")]
    for folder in ("one", "two"):
        FeatureStore(tmp_path / folder).append(rows)
    one, two = ((tmp_path / folder / "000-000000.safetensors").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_all_absent(tmp_path):
    store = FeatureStore(tmp_path)
    store.append([Row("a", None, "silent")])
    embeddings, present = store.read(["a"])
    assert embeddings.shape == (1, 0) and not present.any()
