from dataclasses import replace

import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.dataset import check_content, check_unchanged
from mer_jax.runtime.errors import DataError


def test_a_run_goes_on_with_the_clips_that_it_began_with_alone(tmp_path):
    dataset = Dataset("d", ("x", "y"), (Clip("a", "train", label="x"), Clip("b", "unlabeled")), {})
    reordered = replace(dataset, clips=dataset.clips[::-1])
    check_unchanged(reordered, tmp_path)
    check_unchanged(dataset, tmp_path)  # no stage is done yet: it may still become another
    (tmp_path / "config.json").touch()
    check_unchanged(dataset, tmp_path)
    with pytest.raises(DataError, match="began with other clips"):
        check_unchanged(reordered, tmp_path)


def test_clips_without_anything_to_learn_from_are_an_error():
    bare = Dataset("d", ("x", "y"), (Clip("a", "train", label="x"), Clip("b", "train", label="y")), {})
    with pytest.raises(DataError, match=r"^d: neither media nor features nor texts of its 2 clips, 'a' first"):
        check_content(bare)
    check_content(replace(bare, clips=(*bare.clips, Clip("c", "test", transcript="hi"))))
