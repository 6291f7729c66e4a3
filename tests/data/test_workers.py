"""Workers: order, questions, and items that crash, hang or eat memory."""

import ctypes
import errno
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe

import numpy as np
import pytest

from mer_jax.data.clips import Absent
from mer_jax.data.workers import IDLE, MEMORY, dismiss, map_in_workers, receive, send


def misbehave(item):
    if item == "hang":
        time.sleep(1000)
    if item == "spin":
        while True:
            pass
    if item == "crash":
        ctypes.string_at(0)
    if item == "exit":
        os._exit(3)
    if item == "memory":
        return len(np.empty(MEMORY // 8))  # as much as a worker may have, beside what it has
    if item == "error":
        raise ValueError("odd")
    if item == "absent":
        raise Absent("nothing here")
    return np.full(3, len(item))


def ask(count):
    total = 0
    for question in range(count):
        total += yield question
    return total


def test_a_bad_item_costs_itself_and_nothing_else():
    items = ["fine", "hang", "crash", "exit", "memory", "error", "absent", "spin", "also fine"]
    results = list(map_in_workers(misbehave, items, lambda item: 0.5 if item in ("hang", "spin") else 60.0, count=2))
    assert all(isinstance(result, Absent) for result in results[1:-1])
    assert [str(result) for result in results[1:-1]] == [
        "not done within 0.5 s",
        "crashed (SIGSEGV)",
        "crashed (exit code 3)",
        "needs more than 4 GiB of memory",
        "ValueError: odd",
        "nothing here",
        "not done within 0.5 s",
    ]
    assert [results[i].tolist() for i in (0, -1)] == [[4] * 3, [9] * 3]


def test_generators_are_answered_by_the_parent():
    results = map_in_workers(ask, range(5), lambda item: 30.0, count=2, answer=lambda question: 10 * question)
    assert list(results) == [0, 0, 10, 30, 60]


def test_the_time_that_an_answer_takes_is_not_the_items():
    def answer(question):
        time.sleep(2.5)
        return 7

    assert list(map_in_workers(ask, [1], lambda item: 2.0, count=1, answer=answer)) == [7]


def nap(seconds):
    time.sleep(seconds)
    return seconds, os.getpid()


def test_results_keep_the_order_of_their_items_and_few_are_under_way():
    def pull():
        for seconds in seconds_of_each:
            pulled.append(seconds)
            yield seconds

    pulled, seconds_of_each = [], [0.5, *[0.001 * number for number in range(10)]]
    results = map_in_workers(nap, pull(), lambda item: 60.0, count=2)
    first = next(results)
    assert len(pulled) <= 4
    results = [first, *results]
    assert [seconds for seconds, _ in results] == seconds_of_each
    assert len({process for _, process in results}) == 2


def test_a_worker_that_was_killed_while_idle_is_replaced():
    assert list(map_in_workers(ask, [0], lambda item: 30.0, count=1)) == [0]
    for worker in IDLE:
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
    assert list(map_in_workers(ask, [0, 0], lambda item: 30.0, count=1)) == [0, 0]


def test_leaving_early_ends_the_busy_workers():
    results = map_in_workers(misbehave, ["fine", *["hang"] * 3], lambda item: 100.0, count=2)
    next(results)
    results.close()
    assert all(worker.process.poll() is None for worker in IDLE)
    assert list(map_in_workers(ask, [0], lambda item: 30.0, count=2)) == [0]


def environment_names(_):
    return sorted(os.environ)


def test_workers_see_no_credentials(monkeypatch):
    secrets = {"OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "google_application_credentials"}
    for name in secrets | {"PLAIN"}:
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("mer_jax.data.workers.IDLE", [])  # a fresh one
    (names,) = map_in_workers(environment_names, [0], lambda item: 60.0, count=1)
    dismiss()
    assert "PLAIN" in names and "PYTHONPATH" in names and secrets.isdisjoint(names)


def test_threads_share_the_workers():
    def total(count):
        (result,) = map_in_workers(ask, [count], lambda item: 30.0, count=1, answer=lambda question: question)
        return result

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(total, range(40))) == [sum(range(count)) for count in range(40)]


@pytest.mark.parametrize(
    "array",
    [np.zeros((0, 3)), np.arange(12).reshape(3, 4).T, np.arange(12)[::5], np.array(7.0), np.array(["a", None])],
    ids=["empty", "by columns", "with gaps", "scalar", "objects"],
)
def test_arrays_arrive_as_they_were_sent(array):
    here, there = Pipe()
    with here, there:
        send(here, ("answer", [array, array]))
        kind, (first, second) = receive(there)
    assert kind == "answer" and first.dtype == array.dtype
    for received in (first, second):
        np.testing.assert_array_equal(received, array)


def fail(number):
    raise OSError(number, os.strerror(number), "a.mp4")


def test_an_error_of_the_system_is_no_absence():
    (absent,) = map_in_workers(fail, [errno.ENOENT], lambda item: 30.0, count=1)
    assert isinstance(absent, Absent)
    for number in (errno.EIO, errno.ENOSPC):
        with pytest.raises(OSError, match=r"a\.mp4") as error:
            list(map_in_workers(fail, [number], lambda item: 30.0, count=1))
        assert error.value.errno == number
