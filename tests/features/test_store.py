"""The feature store: what is written is read, in any order, also by a later start."""

import numpy as np
import pytest
from safetensors.numpy import save

from mer_jax.features.store import FeatureStore, Row


def test_rows_come_back_by_key(tmp_path):
    store = FeatureStore(tmp_path)
    a, b = np.arange(3, dtype=np.float32), np.ones(3, np.float32)
    store.append([Row("a", a), Row("silent", None, "silent")])
    store.append([Row("b", b)])
    for opened in (store, FeatureStore(tmp_path)):
        embeddings, present = opened.rows(["b", "silent", "a"])
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
        FeatureStore(tmp_path / folder / "speech-1").append(rows)
    one, two = ((tmp_path / folder / "speech-1/000-000000.safetensors").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_all_absent(tmp_path):
    store = FeatureStore(tmp_path)
    store.append([Row("a", None, "silent")])
    embeddings, present = store.rows(["a"])
    assert embeddings.shape == (1, 0) and not present.any()


def test_rows_stand_where_an_array_would(tmp_path):
    rng = np.random.default_rng(0)
    store, whole = FeatureStore(tmp_path), rng.normal(size=(2, 12, 3)).astype(np.float32)
    for start in (0, 5, 10):
        store.append([Row(str(i), whole[:, i]) for i in range(start, min(start + 5, 12))])
    order = rng.permutation(12)
    rows, _ = store.rows([str(i) for i in order])
    index = np.array([7, 7, 0, 11, 3, 4])
    taken, part = whole[:, order][:, index], np.array([4, 1, 2])
    for lazy, array in (
        (rows, whole[:, order]),
        (rows.take(index).map(np.abs), np.abs(taken)),
        (rows.take(index).take(part), taken[:, part]),
    ):
        assert (lazy.shape, lazy.ndim) == (array.shape, array.ndim)
        np.testing.assert_array_equal(lazy[..., 1:5, :], array[..., 1:5, :])
        np.testing.assert_array_equal(np.asarray(lazy), array)


def test_one_set_of_prompts_serves_all_folds(tmp_path):
    store = FeatureStore(tmp_path)
    store.append([Row(str(i), np.full((1, 3), i)) for i in range(4)])
    rows, _ = store.rows(["3", "1"])
    np.testing.assert_array_equal(np.asarray(rows), [[3] * 3, [1] * 3])


def test_a_shard_never_takes_the_place_of_another(tmp_path):
    store = FeatureStore(tmp_path)
    for name in "abc":
        store.append([Row(name, np.full(2, ord(name), np.float32))])
    (tmp_path / "000-000001.safetensors").unlink()
    again = FeatureStore(tmp_path)
    again.append([Row("b", np.zeros(2, np.float32))])
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    rows, present = FeatureStore(tmp_path).rows(["a", "b", "c"])
    assert present.all() and np.asarray(rows)[:, 0].tolist() == [ord("a"), 0, ord("c")]


def flipped(content: bytes, bit: int) -> bytes:
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


@pytest.mark.parametrize("damage", ["emptied", "cut", "rows flipped", "embeddings flipped", "another store's"])
def test_a_damaged_shard_is_named_and_its_clips_are_not_there(tmp_path, capsys, damage):
    def filled(name):
        store = FeatureStore(tmp_path / name)
        for key in "ab":
            store.append([Row(key, np.full(2, len(name), np.float32))])
        return store.shards[0]

    path, other = filled("speech-1"), filled("speech-22")
    whole = path.read_bytes()
    path.write_bytes(
        {
            "emptied": b"",
            "cut": whole[:-1],
            "rows flipped": flipped(whole, 8 * whole.index(b'"rows') + 8 * 13),
            "embeddings flipped": flipped(whole, 8 * len(whole) - 20),
            "another store's": other.read_bytes(),
        }[damage]
    )
    store = FeatureStore(path.parent)
    assert "a" not in store and "b" in store and not path.exists()
    assert capsys.readouterr().err.startswith(f"  {path}: ")
    store.append([Row("a", np.zeros(2, np.float32))])
    assert "a" in FeatureStore(path.parent)


def test_a_shard_of_an_earlier_version_is_read(tmp_path, capsys):
    path = tmp_path / "000-000000.safetensors"
    path.write_bytes(save({"embeddings": np.ones((1, 2), np.float32)}, {"rows": '[["a", null], ["b", "silent"]]'}))
    store = FeatureStore(tmp_path)
    assert np.asarray(store.rows(["a"])[0]).tolist() == [[1, 1]] and store.reasons == {"b": "silent"}
    assert "earlier version" in capsys.readouterr().err


def test_the_digest_is_of_the_rows_and_not_of_what_joins_them(tmp_path):
    store = FeatureStore(tmp_path / "text-1")
    store.append([Row("a", np.ones(2, np.float32)), Row("b", None, "gone")])
    before = store.features(["a", "b"]).digest
    store.append([Row("c", np.zeros(2, np.float32))])
    assert FeatureStore(tmp_path / "text-1").features(["a", "b"]).digest == before
    assert store.features(["a", "c"]).digest != before
