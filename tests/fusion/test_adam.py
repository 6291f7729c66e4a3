"""Adam by its formulas, and trials that are done while others go on."""

import jax.numpy as jnp
import numpy as np

from mer_jax.fusion.adam import Moments, adam

START = np.array([1.0, -2.0])
GRADIENTS = [np.array([0.5, 0.1]), np.array([-1.0, 0.3]), np.array([0.2, 0.2])]


def by_hand(steps, rate=0.1, l2=0.01):
    """Kingma and Ba (2015), algorithm 1, in float64; the penalty's gradient joins the loss's."""
    x, m, v = START, 0.0, 0.0
    for t, gradient in enumerate(GRADIENTS[:steps], start=1):
        g = gradient + l2 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def test_three_steps_by_hand_with_one_between_that_does_not_count():
    params = {"w": jnp.asarray(START, jnp.float32)}
    moments = Moments.zeros(params)
    for number, gradient in enumerate([GRADIENTS[0], GRADIENTS[2], *GRADIENTS[1:]]):
        before = params, moments
        gradients = {"w": jnp.asarray(gradient, jnp.float32)}
        params, moments = adam(gradients, params, moments, 0.1, 0.01, active=jnp.array(number != 1))
        if number == 1:
            np.testing.assert_array_equal(params["w"], before[0]["w"])
            np.testing.assert_array_equal(moments.first["w"], before[1].first["w"])
            np.testing.assert_array_equal(moments.second["w"], before[1].second["w"])
    assert moments.steps == 3
    np.testing.assert_allclose(params["w"], by_hand(3), rtol=1e-5)
