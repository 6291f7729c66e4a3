"""What a data set says of its own clips."""

from mer_jax.data.clips import Clip, Dataset

CLIPS = (
    Clip("a", "train", label="x"),
    Clip("t", "test"),
    Clip("b", "train", label="y"),
    Clip("c", "train", label="x"),
    Clip("u", "unlabeled"),
    Clip("v", "unlabeled"),
)
DATASET = Dataset("d", ("x", "y", "z"), CLIPS, {"t": "y", "u": "x"})


def test_splits_in_the_order_of_the_clips():
    assert [DATASET.split(name) for name in ("train", "unlabeled", "test")] == [[0, 2, 3], [4, 5], [1]]
    assert DATASET.counts() == {"train": 3, "unlabeled": 2, "test": 1}


def test_classes_are_counted_where_labels_are_known():
    assert DATASET.classes() == {
        "train": {"x": 2, "y": 1, "z": 0},
        "unlabeled": {"x": 1, "y": 0, "z": 0},
        "test": {"x": 0, "y": 1, "z": 0},
    }
