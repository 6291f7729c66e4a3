"""What stands beside a score that should not be trusted as it is."""

import numpy as np
import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.fusion.folds import Folds
from mer_jax.report.cautions import cautions, thin_folds

DATASET = Dataset("toy", ("sad", "happy"), (Clip("a", "train"),), {}, warnings=("of toys",))
FOLDS = Folds(np.arange(4), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, None),
        ({"predicted": np.ones(4, int)}, "every held-out clip is taken for happy: nothing has been learned"),
        ({"constant": {"text": 0.75}}, "75% of the numbers of text are the same for every clip"),
        ({"in_groups": True}, "features are standardised within each group, "),
    ],
)
def test_each_reason_is_a_line(changes, line):
    fine = {"constant": {"text": 0.5}, "in_groups": False, "predicted": np.array([0, 1, 1, 1])}
    *lines, last = cautions(DATASET, FOLDS, **(fine | changes))
    assert last == "of toys" and len(lines) == (line is not None)
    assert all(each.startswith(line) for each in lines)


def test_classes_that_are_held_out_as_a_whole_and_folds_of_one_class_are_said_beside_the_score():
    def lines(labels, fold_of):
        folds = Folds(np.arange(len(labels)), np.array(labels), np.array(fold_of))
        return list(thin_folds(["sad", "happy", "angry"], folds))

    assert lines([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1]) == []
    assert lines([0, 1, 2, 0, 1, 0], [0, 0, 0, 1, 1, 1]) == [
        "all labelled clips of angry are held out at once, by networks that never saw the class"
    ]
    assert lines([0, 1, 0, 0], [0, 0, 0, 1]) == [
        "all labelled clips of happy are held out at once, by networks that never saw the class",
        "held-out clips of one class alone (fold 2): such a fold's score says little",
    ]
