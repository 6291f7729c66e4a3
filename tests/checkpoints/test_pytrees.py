import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.checkpoints.pytrees import load_trained, save_trained
from mer_jax.runtime.errors import DataError


@pytest.mark.parametrize("width", [0, 3])
def test_arrays_come_back_and_empty_ones_too(tmp_path, width):
    tree = {"prompts": [jnp.arange(2.0 * width).reshape(2, width), jnp.zeros((0, 4))]}
    save_trained(tmp_path / "kept", tree)
    found = load_trained(tmp_path / "kept", {"prompts": [jnp.ones((2, width)), jnp.ones((0, 4))]})
    np.testing.assert_array_equal(found["prompts"][0], tree["prompts"][0])
    assert found["prompts"][1].shape == (0, 4)


def test_saving_again_replaces_what_was_there(tmp_path):
    for value in (1.0, 2.0):
        save_trained(tmp_path / "kept", {"a": jnp.full(3, value)})
    np.testing.assert_array_equal(load_trained(tmp_path / "kept", {"a": jnp.zeros(3)})["a"], [2, 2, 2])


def test_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match="expected the workdir of a finished run"):
        load_trained(tmp_path / "none", {"a": jnp.zeros(1)})
