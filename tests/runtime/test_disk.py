"""Room on a disk."""

import pytest

from mer_jax.runtime import disk as module
from mer_jax.runtime.disk import SPARE_BYTES, check_room, free_bytes, size_text
from mer_jax.runtime.errors import DataError


def test_the_disk_of_a_folder_that_is_yet_to_be_made_is_its_parents(tmp_path):
    assert abs(free_bytes(tmp_path / "a" / "b") - free_bytes(tmp_path)) < 2**30


def test_sizes_as_people_say_them():
    assert [size_text(size) for size in (5e5, 1.5e9, 2e12)] == ["0.5 MB", "1.5 GB", "2,000.0 GB"]


def test_what_does_not_fit_is_said_with_both_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda folder: SPARE_BYTES + 1_000_000)
    check_room(tmp_path, 1_000_000, "the crops")
    check_room(tmp_path, 0, "the crops")
    with pytest.raises(DataError, match=r"the crops take about 1\.0 MB, and 1\.1 GB are free"):
        check_room(tmp_path, 1_000_001, "the crops")
