import pytest

from mer_jax.runtime.files import write_whole


def test_writes_text_as_given_and_makes_parents(tmp_path):
    path = tmp_path / "deep" / "labels.csv"
    with write_whole(path) as file:
        file.write("name,愤怒\r\n")
    assert path.read_bytes() == "name,愤怒\r\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_writes_bytes(tmp_path):
    with write_whole(tmp_path / "features.npy", mode="wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "features.npy").read_bytes() == b"\x00\xff"


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with write_whole(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_failure_leaves_no_trace(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="halfway"), write_whole(path) as file:
        file.write("ne")
        raise ValueError("halfway")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
