import numpy as np
import pytest

from tests.oracle import Oracle

VALUES = {"logits": np.array([[1.0, -2.0]], np.float32), "boxes": np.zeros((0, 4), np.float32)}


@pytest.fixture
def folder(tmp_path):
    Oracle(tmp_path, compute=True, write=True)("some/values", lambda: VALUES)
    return tmp_path


def test_without_torch_the_stored_values_are_given(folder):
    stored = Oracle(folder, compute=False)("some/values", lambda: pytest.fail("nothing is computed"))
    assert stored.keys() == VALUES.keys()
    for name, value in VALUES.items():
        np.testing.assert_array_equal(stored[name], value)


def test_with_torch_its_own_values_are_given(folder):
    values = Oracle(folder, compute=True)("some/values", lambda: VALUES | {"logits": np.array([[1.0, -2.00001]])})
    assert values["logits"][0, 1] == -2.00001


@pytest.mark.parametrize(
    "values",
    [
        VALUES | {"logits": np.array([[1.0, -2.0001]])},
        VALUES | {"logits": np.array([1.0, -2.0])},
        VALUES | {"more": np.zeros(1)},
        {"logits": VALUES["logits"]},
    ],
    ids=["value", "shape", "more", "fewer"],
)
def test_stored_values_that_are_no_longer_torchs_fail(folder, values):
    with pytest.raises(AssertionError, match=r"some/values\.safetensors"):
        Oracle(folder, compute=True)("some/values", lambda: values)
