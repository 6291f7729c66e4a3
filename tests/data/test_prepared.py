"""Reading a prepared data set: its table, and records by their place in a split."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mer_jax.data import prepared
from mer_jax.data.clips import Absent, Problem
from mer_jax.data.prepared import Record, read_prepared
from mer_jax.runtime.errors import DataError
from tests.data.test_records import jpeg

DESCRIPTION = {
    "name": "d",
    "labels": ["x", "y"],
    "warnings": ["beware"],
    "problems": [{"name": "a", "split": "train", "modality": None, "reason": "odd"}],
}
TABLE = """name,split,label,truth,group,transcript,fingerprint
a,train,x,,g,hi,f1
b,train,y,,,,f2
u,unlabeled,,x,,,f3
c,train,x,,,,f4
"""


def test_the_table_and_the_places_of_the_records(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "clips.csv").write_text(TABLE)
    dataset = read_prepared(tmp_path)
    assert (dataset.name, dataset.labels, dataset.warnings) == ("d", ("x", "y"), ("beware",))
    assert dataset.problems == (Problem("a", "train", None, "odd"),) and dataset.truth == {"u": "x"}
    a, b, u, c = dataset.clips
    assert (a.label, a.group, a.transcript, a.split) == ("x", "g", "hi", "train")
    assert (u.label, u.group, u.split) == (None, None, "unlabeled")
    places = [(clip.prepared.split, clip.prepared.position, clip.prepared.identity()) for clip in (a, b, u, c)]
    assert places == [("train", 0, "f1"), ("train", 1, "f2"), ("unlabeled", 0, "f3"), ("train", 2, "f4")]


def test_what_is_no_prepared_data_set(tmp_path):
    with pytest.raises(DataError, match="no prepared data set in it"):
        read_prepared(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read as JSON"):
        read_prepared(tmp_path)


@pytest.fixture
def record(monkeypatch, tmp_path):
    """The second of a split's records, with its frames 0 to 4 in colours of their own and no faces."""
    colours = [np.full((16, 16, 3), (40 * i, 10 * i, 200), np.uint8) for i in range(5)]
    content = {
        "id": b"b",
        "waveform": np.arange(5, dtype=np.int16),
        "frames": [jpeg(colour) for colour in colours],
        "faces": [],
        "absent": json.dumps({"image": "no face"}),
    }
    monkeypatch.setattr(prepared, "source", lambda root, split: {(tmp_path, "test"): [None, content]}[root, split])
    return Record(tmp_path, "b", "test", 1, "f"), colours


def test_a_record_gives_sound_and_chosen_frames(record):
    record, colours = record
    np.testing.assert_array_equal(record.sound(16_000), np.arange(5))
    frames = record.frames(lambda total: np.array([total - 1, 1]))
    np.testing.assert_allclose(frames.astype(int), [colours[4], colours[1]], rtol=0, atol=2)  # RGB


def test_what_a_record_lacks_is_absent_with_its_reason(record):
    with pytest.raises(Absent, match=r"^no face$"):
        record[0].faces()
    with pytest.raises(Absent, match="prepared at 16000 Hz, not 8000 Hz"):
        record[0].sound(8_000)


def test_a_record_that_is_anothers_or_damaged_is_refused_by_name(record, monkeypatch):
    for other, message in ((replace(record[0], name="c"), "is b, not c"), (replace(record[0], position=0), "be read")):
        with pytest.raises(
            DataError, match=rf"record {other.position} of its test split .*{message}; remove that folder"
        ):
            other.sound(16_000)


@pytest.mark.parametrize("name", ["../../../x", "/x", "..", "a/b", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "dataset.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "clips.csv").write_text(TABLE.replace("\na,", f"\n{name},"))
    with pytest.raises(DataError, match=r"its clips\.csv has a clip"):
        read_prepared(tmp_path)


def test_jpegs_are_rgb():
    image = np.broadcast_to(np.array((200, 40, 90), np.uint8), (8, 8, 3))
    (again,) = prepared.from_jpeg([jpeg(image)])
    np.testing.assert_allclose(again.astype(int), image, rtol=0, atol=2)
    assert Image.fromarray(again).size == (8, 8)


def test_stored_pictures_are_opened_under_the_limits_of_others(monkeypatch):
    picture = jpeg(np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr("mer_jax.data.decoding.LARGEST_SIDE", 7)
    for files, reason in (([picture], "one is more than 7 px across"), ([b"no picture"], "cannot identify")):
        with pytest.raises(Absent, match=f"its pictures cannot be read: .*{reason}"):
            prepared.from_jpeg(files)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": 5},
        {"name": None},
        {"warnings": [3]},
        {"problems": 5},
        {"problems": [{"name": "a"}]},
        {"labels": None},
        None,
    ],
)
def test_a_description_of_other_types_is_one_line(tmp_path, change):
    (tmp_path / "dataset.json").write_text(json.dumps([] if change is None else DESCRIPTION | change))
    (tmp_path / "clips.csv").write_text(TABLE)
    with pytest.raises(DataError, match=r"its dataset\.json holds other things than .*; remove that folder"):
        read_prepared(tmp_path)


def test_labels_are_those_of_the_description(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "clips.csv").write_text(TABLE.replace("b,train,y", "b,train,z"))
    with pytest.raises(DataError, match=r"its clips\.csv has a label 'z' that its dataset\.json lacks"):
        read_prepared(tmp_path)
