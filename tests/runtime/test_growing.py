"""A growing file ends with the same bytes, wherever its process was killed and whatever was cut off it."""

import os
import signal
import subprocess
import sys

import pytest

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.growing import growing

PARTS = ["", "one\n", "two\nzwei 二\n", "three\n"]
WHOLE = "".join(PARTS)


def write(path, parts=PARTS, made_of="this"):
    """Gives how many parts were there."""
    with growing(path, made_of) as file:
        there = len(file.whole)
        for part in parts[there:]:
            file.append(part)
    return there


def test_a_finished_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "new" / "lines.jsonl"
    assert write(path) == 0 and path.read_text("utf-8") == WHOLE
    assert write(path) == len(PARTS) and path.read_text("utf-8") == WHOLE
    assert sorted(path.parent.iterdir()) == [path.with_name(".lines.jsonl.parts.json"), path]


@pytest.mark.parametrize("size", range(len(WHOLE.encode())))
def test_what_was_cut_is_written_again(tmp_path, capsys, size):
    path = tmp_path / "lines.jsonl"
    write(path)
    os.truncate(path, size)
    assert write(path) == (0 if not size else 1 + (size >= 4) + (size >= 17))
    assert path.read_text("utf-8") == WHOLE and not capsys.readouterr().err


def test_what_was_written_and_not_listed_is_dropped(tmp_path):
    path = tmp_path / "lines.jsonl"
    write(path, PARTS[:2])
    with open(path, "a", encoding="utf-8") as file:
        file.write("tw")
    half = path.with_name("..lines.jsonl.parts.json.0123abcd.tmp")
    half.touch()
    assert write(path) == 2 and path.read_text("utf-8") == WHOLE and not half.exists()


def test_what_has_changed_is_named_and_made_again(tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    write(path)
    path.write_text(WHOLE.replace("zwei", "Zwei"), "utf-8")
    assert write(path) == 2 and path.read_text("utf-8") == WHOLE
    assert capsys.readouterr().err == f"  {path}: from byte 4 on not as it was written: made again\n"


def test_files_of_others_are_refused_and_stay(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text("mine\n")
    with pytest.raises(DataError, match=r"lines.jsonl: not written by this command \(nothing beside it"):
        write(path)
    assert path.read_text() == "mine\n"
    path.unlink()
    write(path)
    with pytest.raises(DataError, match=r"made by other settings or inputs than these\); remove it"):
        write(path, made_of="that")
    assert path.read_text("utf-8") == WHOLE
    path.unlink()
    assert write(path, made_of="that") == 0


def test_one_process_writes(tmp_path):
    path = tmp_path / "lines.jsonl"
    program = "import sys, time; from pathlib import Path; from mer_jax.runtime.growing import growing\n"
    program += "with growing(Path(sys.argv[1]), 'this'): print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "up\n"
        with pytest.raises(UsageError, match="another process writes it"):
            write(path)
        other.send_signal(signal.SIGKILL)
    assert write(path) == 0


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "lines.jsonl"
    with growing(path, "this") as file:
        file.append("one\n")
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file.file.fileno())
        os.close(full)
        with pytest.raises(OSError, match="No space left") as raised:
            file.append("two\n")
    assert raised.value.filename == str(path)
