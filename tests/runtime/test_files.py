import errno
import io
import os
from pathlib import Path

import pytest

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import (
    MOST_BYTES,
    cache_folder,
    csv_text,
    dump_json,
    load_json,
    of_the_system,
    open_regular,
    printable,
    shown,
    write_csv,
    write_through,
    write_whole,
)


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


def test_what_the_system_has_against_an_open_file_names_it(tmp_path):
    path = tmp_path / "metrics.json"
    with pytest.raises(OSError) as raised, write_whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(path)


def test_a_write_that_is_taken_in_part_goes_on_and_a_refused_one_names_the_file(tmp_path):
    class Nearly(io.FileIO):
        def write(self, content):
            return super().write(content[:3])

    with Nearly(tmp_path / "answers.jsonl", "w") as file:
        write_through(file, b"a line of some length\n")
    assert (tmp_path / "answers.jsonl").read_bytes() == b"a line of some length\n"
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as raised:
        write_through(full, b"x")
    assert raised.value.filename == "/dev/full"


def test_json_is_readable_and_comes_back(tmp_path):
    dump_json(tmp_path / "a.json", {"label": "愤怒", "waf": [0.5]})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "label": "愤怒",\n "waf": [\n  0.5\n ]\n}'
    assert load_json(tmp_path / "a.json") == {"label": "愤怒", "waf": [0.5]}


@pytest.mark.parametrize("content", [b"{", b"\xff", None])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: cannot be read as JSON"):
        load_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/home/me/.cache/mer_jax"),
        ({"XDG_CACHE_HOME": "/fast"}, "/fast/mer_jax"),
        ({"XDG_CACHE_HOME": "/fast", "MER_JAX_CACHE": "/mine"}, "/mine"),
        ({"XDG_CACHE_HOME": "", "MER_JAX_CACHE": ""}, "/home/me/.cache/mer_jax"),
    ],
)
def test_the_cache_is_where_the_environment_says(monkeypatch, variables, folder):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_CACHE_HOME", "MER_JAX_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == folder


def test_names_that_are_no_utf_8_can_be_written():
    assert printable(Path(os.fsdecode(b"a\xff.mp4"))) == "a\\xff.mp4"
    assert printable("情感 é.mp4") == "情感 é.mp4"


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "＝1+1", "'=1", "''@", "-1+1", "=", "-"])
def test_what_a_spreadsheet_would_run_gets_a_quote(cell):
    """As OWASP advises against csv injection; unlike pandas and the csv module, which write it as it is."""
    row = csv_text(("a", "b"), [(cell, "")]).removeprefix("a,b\n")
    assert row.lstrip('"').startswith(f"'{cell}") and shown(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["-0.5", "+1", "-1e-05", "a=b", "'a", "", "'", "你好", "1-2"])
def test_numbers_and_plain_text_stay(cell):
    assert csv_text(("a", "b"), [(cell, "")]) == f"a,b\n{cell},\n" and shown(cell) == cell


def test_line_ends_inside_cells_are_quoted(tmp_path):
    write_csv(tmp_path / "t.csv", ("a", "b"), [("x\ry", "x\ny"), ('"', ",")])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n"x\ry","x\ny"\n"""",","\n'


def test_a_file_of_absurd_size_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    open_regular(path, 2).close()
    with pytest.raises(OSError, match="0 MiB, where 0 are the most"):
        open_regular(path, 1)
    os.truncate(path, 240 * 2**30)
    with pytest.raises(DataError, match=r"a\.json: cannot be read as JSON \(245,760 MiB, where 128 are the most\)$"):
        load_json(path)
    os.truncate(path, MOST_BYTES)
    open_regular(path, MOST_BYTES).close()


def test_errors_of_the_system_are_told_from_those_of_a_file():
    system = (errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EMFILE, errno.ETIMEDOUT, errno.EROFS)
    file = (errno.EINVAL, errno.ENOENT, errno.EACCES, errno.ENOMEM)
    assert [of_the_system(OSError(number, "")) for number in (*system, *file)] == [True] * 6 + [False] * 4
    of_a_library = type("FFmpegError", (OSError,), {"__module__": "av.error"})
    assert not any(map(of_the_system, (OSError("truncated"), ValueError(5), of_a_library(errno.EIO, ""))))
