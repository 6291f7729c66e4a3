from dataclasses import replace

import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.data.dataset import FolderData, RootData, check_content, check_unchanged, open_dataset
from mer_jax.data.prepared import INDEX_COLUMNS
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json, write_csv


def test_a_run_goes_on_with_the_clips_that_it_began_with_alone(tmp_path):
    dataset = Dataset("d", ("x", "y"), (Clip("a", "train", label="x"), Clip("b", "unlabeled")), {})
    reordered = replace(dataset, clips=dataset.clips[::-1])
    check_unchanged(reordered, tmp_path)
    check_unchanged(dataset, tmp_path)  # no stage is done yet: it may still become another
    (tmp_path / "config.json").touch()
    check_unchanged(dataset, tmp_path)
    with pytest.raises(DataError, match="began with other clips"):
        check_unchanged(reordered, tmp_path)


def test_a_setting_picks_the_sound_track_of_every_clip(tmp_path):
    (tmp_path / "clips.csv").write_text("name,label\na,x\nb,y\n")
    folder = FolderData(root=str(tmp_path))
    assert {clip.audio_track for clip in open_dataset("folder", folder).clips} == {""}
    french = open_dataset("folder", replace(folder, audio_track="fra"))
    assert {clip.audio_track for clip in french.clips} == {"fra"}


def test_the_sound_of_a_prepared_set_is_chosen(tmp_path):
    write_csv(tmp_path / "clips.csv", INDEX_COLUMNS, [("a", "train", "x", "", "", "", "")])
    dump_json(tmp_path / "dataset.json", {"name": "d", "labels": ["x", "y"], "problems": [], "warnings": []})
    assert open_dataset("prepared", RootData(root=str(tmp_path))).clips[0].name == "a"
    with pytest.raises(DataError, match=r"chosen when it was prepared: leave data\.audio_track empty"):
        open_dataset("prepared", RootData(root=str(tmp_path), audio_track="1"))


def test_clips_without_anything_to_learn_from_are_an_error():
    bare = Dataset("d", ("x", "y"), (Clip("a", "train", label="x"), Clip("b", "train", label="y")), {})
    with pytest.raises(DataError, match=r"^d: neither media nor features nor texts of its 2 clips, 'a' first"):
        check_content(bare)
    check_content(replace(bare, clips=(*bare.clips, Clip("c", "test", transcript="hi"))))
