"""The first signal waits for what is under way, a second one does not."""

import signal

import pytest

from mer_jax.runtime.signals import stop_requests

pytestmark = pytest.mark.usefixtures("usual_signals")


def test_the_first_signal_takes_its_course_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), stop_requests() as stopping:
        done.append(stopping())
        signal.raise_signal(signal.SIGINT)
        done.append(stopping())
    assert done == [False, True]


def test_a_second_signal_takes_its_course_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), stop_requests():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        done.append("still here")
    assert not done


def test_without_a_signal_nothing_changes():
    usual = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests() as stopping:
        assert not stopping()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == usual
