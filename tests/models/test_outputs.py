import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.outputs import scan_layers


def double_and_add(layer, x):
    return 2 * x + layer


@pytest.mark.parametrize("keep_layers", [1, 2, 3])
def test_the_last_layers_outputs_are_kept_in_order(keep_layers):
    x = jnp.array([[[0.0, 1.0]]])
    outputs = scan_layers(double_and_add, jnp.array([1.0, 10.0, 100.0]), x, keep_layers)
    expected = np.array([[1, 3], [12, 16], [124, 132]])
    np.testing.assert_array_equal(outputs[:, 0, 0], expected[-keep_layers:])


@pytest.mark.parametrize("keep_layers", [0, 4])
def test_keeping_none_or_more_than_there_are_is_an_error(keep_layers):
    with pytest.raises(ValueError, match=f"keep_layers={keep_layers}, but the model has 3 layers"):
        scan_layers(double_and_add, jnp.ones(3), jnp.ones((1, 1, 2)), keep_layers)
