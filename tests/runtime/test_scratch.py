"""Scratch folders: there for a block, and gone after it, at the latest at the next start after a kill."""

import fcntl
import os
import tempfile

import pytest

from mer_jax.runtime.scratch import LOCK, scratch_folder


def test_a_folder_is_there_for_a_block(tmp_path):
    with scratch_folder("ours-", tmp_path) as folder:
        assert folder.parent == tmp_path and folder.name.startswith("ours-")
        with scratch_folder("ours-", tmp_path) as other:
            assert folder.exists() and other != folder
    with pytest.raises(KeyboardInterrupt), scratch_folder("ours-", tmp_path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_have_left_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("ours-killed", "ours-old", "ours-running", "ours-young", "theirs")
    killed, old, running, young, theirs = (tmp_path / name for name in names)
    for folder in (killed, old, running, young, theirs):
        folder.mkdir()
    (killed / LOCK).touch()
    os.utime(old, (0, 0))
    with open(running / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with scratch_folder("ours-"):
            assert not killed.exists() and not old.exists()
    assert running.exists() and young.exists() and theirs.exists()


def test_folders_of_others_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "ours-1").mkdir()
    (tmp_path / "ours-1" / LOCK).touch()
    monkeypatch.setattr("mer_jax.runtime.scratch.getuid", lambda: os.getuid() + 1)
    with scratch_folder("ours-", tmp_path):
        assert (tmp_path / "ours-1").exists()
