"""What was kept is read back, or named and not used: whatever has happened to the file since."""

import errno
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import (
    FORMAT,
    KEPT,
    Damaged,
    changed_in,
    check,
    digest_of,
    digests_in,
    file_digests,
    keep,
    mark,
    read_kept,
    usable,
)

CONTENT = {"labels": [0, 1, 2], "waf": 0.5, "name": "中文"}


@pytest.fixture
def path(tmp_path):
    keep(tmp_path / "round.json", CONTENT, "these settings")
    return tmp_path / "round.json"


def test_what_was_kept_comes_back(path):
    assert read_kept(path, "these settings") == usable(path, "these settings") == CONTENT
    assert usable(path.with_name("none.json")) is None


@pytest.mark.parametrize("made_of", ["", "other settings"])
def test_what_something_else_made_is_not_used(path, capsys, made_of):
    with pytest.raises(Damaged, match=r"round\.json: made by other settings"):
        read_kept(path, made_of)
    assert usable(path, made_of) is None
    assert capsys.readouterr().err.endswith("round.json: made by other settings or inputs than these: made again\n")


@given(st.data())
def test_no_flipped_bit_and_no_cut_is_believed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("kept") / "round.json"
    keep(path, CONTENT)
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        bits = np.frombuffer(whole, np.uint8).copy()
        bits[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(bits.tobytes())
    try:
        assert read_kept(path) == CONTENT  # white space, say
    except Damaged as reason:
        assert str(reason).startswith(f"{path}: ")


@pytest.mark.parametrize("content", ["[]", "3", '{"labels": []}', '{"_kept": []}', '{"_kept": {"format": 1}}'])
def test_other_json_is_not_believed(path, content):
    path.write_text(content)
    with pytest.raises(Damaged):
        read_kept(path)


def test_content_of_another_kind_is_not_believed_though_its_checksum_is_right(path, capsys):
    for parse in (
        lambda saved: saved["rounds"],
        lambda saved: saved["labels"]["a"],
        lambda saved: float(saved["name"]),
    ):
        with pytest.raises(Damaged, match=r"round\.json: holds other things than this version keeps there"):
            read_kept(path, "these settings", parse=parse)
        assert usable(path, "these settings", parse=parse) is None
        assert capsys.readouterr().err.count("\n") == 1
    assert usable(path, "these settings", parse=lambda saved: saved["waf"]) == 0.5


def test_what_the_system_does_not_give_is_not_damaged(path, monkeypatch):
    """Nothing is made again, and in the place of what is whole, because a server was away."""

    def lost(path, *_):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr("mer_jax.runtime.files.open_regular", lost)
    with pytest.raises(DataError, match=r"round\.json: cannot be read as JSON \(Stale") as error:
        usable(path, "these settings")
    assert not isinstance(error.value, Damaged)


def test_another_format_is_refused_by_its_number(path):
    content = json.loads(path.read_text("utf-8"))
    content[KEPT]["format"] = FORMAT + 1
    path.write_text(json.dumps(content))
    with pytest.raises(Damaged, match=f"of format {FORMAT + 1}, where this version reads {FORMAT}"):
        read_kept(path, "these settings")


def test_files_of_earlier_versions_are_read_where_that_is_asked_for(path):
    path.write_text('{"digest": "ab"}')
    assert read_kept(path, earlier=True) == {"digest": "ab"}
    with pytest.raises(Damaged, match="no checksum"):
        read_kept(path)


def test_a_mark_is_of_the_content_and_of_what_made_it(path):
    check(path, mark("a", b"bytes", [1, 2]), "a", b"bytes", [1, 2])
    for made_of, content in (("b", (b"bytes", [1, 2])), ("a", (b"bytes", [1, 3])), ("a", (b"byte", [1, 2]))):
        with pytest.raises(Damaged):
            check(path, mark("a", b"bytes", [1, 2]), made_of, *content)


def test_numbers_that_are_not_finite_are_null(tmp_path):
    keep(tmp_path / "a.json", {"waf": [float("nan"), 0.5], "loss": (float("inf"),)})
    assert read_kept(tmp_path / "a.json") == {"waf": [None, 0.5], "loss": [None]}


def test_digests_tell_parts_apart(tmp_path):
    parts = [("a", "b"), ("ab",), ("ab", ""), (b"a", b"b"), (b"ab",), (["a", "b"],), (None,), ()]
    assert len({digest_of(*each) for each in parts}) == len(parts)
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert file_digests([tmp_path / "a", tmp_path / "a"])[0] == file_digests([tmp_path / "b", tmp_path / "a"])[1]
    assert len(set(file_digests([tmp_path / "a", tmp_path / "b"]))) == 2


def test_files_of_a_folder_and_those_that_have_changed(tmp_path):
    for name in ("a", "deep/b", "deep/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    digests = digests_in(tmp_path)
    assert list(digests) == ["a", "deep/b", "deep/c"] and changed_in(tmp_path, digests) == []
    assert list(digests_in(tmp_path, [tmp_path / "a", tmp_path / "none", tmp_path / "deep"])) == ["a"]
    (tmp_path / "a").write_text("other")
    (tmp_path / "deep" / "c").unlink()
    (tmp_path / "deep" / "new").touch()
    assert changed_in(tmp_path, digests) == ["a", "deep/c"]
