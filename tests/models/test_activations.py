import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.models.activations import ACTIVATIONS, known_activation, materialise
from mer_jax.runtime.errors import DataError


def torch_activations(x):
    import torch
    from transformers.activations import ACT2FN

    return {name: ACT2FN[name](torch.tensor(x)) for name in ACTIVATIONS}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_equals_transformers(name, oracle):
    x = np.linspace(-12, 12, 961, dtype=np.float32)
    expected = oracle("activations", lambda: torch_activations(x))
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), expected[name], atol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_keeps_bfloat16(name):
    assert ACTIVATIONS[name](jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_materialise_is_the_identity_with_its_gradient():
    y, gradient = jax.value_and_grad(lambda x: materialise(3 * x))(jnp.float32(5))
    assert (y, gradient) == (15, 3)


def test_unknown_activation_names_the_known_ones():
    with pytest.raises(DataError, match=r"mish.*gelu"):
        known_activation("mish")
