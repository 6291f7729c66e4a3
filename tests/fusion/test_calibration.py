"""Temperatures: the likeliest, for each number of present modalities."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mer_jax.fusion.calibration import calibrated, fit_temperature, fit_temperatures
from mer_jax.metrics import softmax


def clips(temperature, count=4000, seed=0):
    """Logits that are `temperature` times as large as what the labels were drawn by."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3))
    labels = (softmax(logits).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return temperature * logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_logits_too_large_are_divided_by_as_much(temperature):
    logits, labels = clips(temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.1)
    losses = [log_loss(labels, softmax(logits / (factor * fitted))) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)


def test_each_number_of_modalities_has_its_own_and_one_without_clips_that_of_all():
    (one, first), (three, third) = clips(0.5), clips(4.0, seed=1)
    nothing = np.full((50, 3), 1e3) * np.eye(3)[0]  # clips without a modality have no say
    logits, labels = np.concatenate([one, three, nothing]), np.concatenate([first, third, np.ones(50, int)])
    counts = np.repeat([1, 3, 0], [4000, 4000, 50])
    temperatures = fit_temperatures(logits, labels, counts, 3)
    of_all = fit_temperature(logits[:8000], labels[:8000])
    np.testing.assert_allclose(temperatures, [fit_temperature(one, first), of_all, fit_temperature(three, third)])


def test_probabilities_by_hand():
    logits = np.array([[2.0, 0.0]] * 3)
    probs = calibrated(logits, np.array([0, 1, 2]), np.array([2.0, 4.0]))
    np.testing.assert_allclose(probs[:, 0], 1 / (1 + np.exp(-np.array([1.0, 1.0, 0.5]))))


def test_networks_that_are_always_right_do_not_divide_by_zero():
    assert 0.04 < fit_temperature(np.eye(2) * 9, np.array([0, 1])) < 0.3
