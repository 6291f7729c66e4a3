import jax
import numpy as np

from mer_jax.runtime.random import named_key


def data(*names):
    return jax.random.key_data(named_key(*names)).tolist()


def test_streams_are_stable_across_processes_and_apart_from_each_other():
    assert data(0, "fusion", 3, 1) == data(named_key(0, "fusion"), 3, 1)
    # The number itself: a change would silently change every result.
    np.testing.assert_array_equal(data(0, "fusion"), [286132926, 3313095646])
    streams = [data(0, "fusion", 0), data(0, "fusion", 1), data(1, "fusion", 0), data(0, "prompts", 0), data(0)]
    assert len(set(map(tuple, streams))) == len(streams)
