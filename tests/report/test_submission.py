import numpy as np
import pytest

from mer_jax.report.submission import write_predictions, write_probabilities
from mer_jax.runtime.errors import DataError


def test_predictions_in_the_order_given(tmp_path):
    write_predictions(tmp_path / "test.csv", ["b", "a,1"], ["happy", "sad"])
    assert (tmp_path / "test.csv").read_text() == 'name,discrete\nb,happy\n"a,1",sad\n'


def test_probabilities_with_six_decimals(tmp_path):
    probs = np.array([[0.25, 0.75], [1 / 3, 2 / 3]], np.float32)
    write_probabilities(tmp_path / "probs.csv", ["b", "a"], probs, ["happy", "sad"])
    expected = "name,happy,sad\nb,0.250000,0.750000\na,0.333333,0.666667\n"
    assert (tmp_path / "probs.csv").read_text() == expected


def test_a_name_given_twice_is_refused_and_the_old_file_kept(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("old")
    with pytest.raises(DataError, match=r"test\.csv.*more than once \(a\)"):
        write_predictions(path, ["a", "b", "a"], ["sad"] * 3)
    with pytest.raises(DataError, match="more than once"):
        write_probabilities(path, ["a", "a"], np.ones((2, 1)), ["sad"])
    assert path.read_text() == "old"


def test_rows_and_labels_must_match(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(tmp_path / "test.csv", ["a", "b"], ["sad"])
    with pytest.raises(ValueError, match="shape"):
        write_probabilities(tmp_path / "probs.csv", ["a"], np.ones((1, 3)), ["sad", "happy"])
    assert not list(tmp_path.iterdir())
