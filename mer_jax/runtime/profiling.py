"""Where time goes: `--profile`, the names of stages and steps in it, and how busy the devices were."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import jax
from absl import flags


@contextmanager
def profiled() -> Iterator[None]:
    """Writes what happens in the block under `--profile=DIR`, where that is given, for XProf and TensorBoard.

    Of several hosts each begins with its first stage, when it has joined the others.
    """
    try:
        if not asked("distributed"):
            PROFILE.begin()
        yield
    finally:
        PROFILE.end()


def asked(flag: str) -> Any:
    """What a flag says; None where the command has no such flag."""
    return flags.FLAGS[flag].value if flag in flags.FLAGS and flags.FLAGS.is_parsed() else None


class Profile:
    """The one that JAX may write at a time."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """Begins it, if `--profile` asks for one and it has not begun."""
        if (folder := asked("profile")) and not self.begun:
            Path(folder).mkdir(parents=True, exist_ok=True)  # or only the end would tell that it cannot be written
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of a function is too much for more than seconds
            jax.profiler.start_trace(folder, profiler_options=options)
            self.begun = True

    def end(self) -> None:
        """Writes it."""
        if self.begun:
            self.begun = False
            jax.profiler.stop_trace()


PROFILE = Profile()


@contextmanager
def named(stage: str) -> Iterator[None]:
    """The block has this name in a profile."""
    PROFILE.begin()
    with jax.profiler.TraceAnnotation(stage):
        yield


class DeviceClock:
    """Adds up the seconds in which a program is on the devices: dispatched, its results not there yet.

    Nothing waits for it: a thread of its own looks at one program after the other, in the order of their dispatch, and
    what overlaps counts once. Tracing and compiling do not count. Time in which a program waits for its inputs to cross
    over does, and a device that is busy with a small part of what it has counts as much as one that is full; on a CPU
    "device" means XLA's threads.
    """

    def __init__(self) -> None:
        self._busy = self._until = self._compiling = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._note)
        self._lock = Lock()
        self._watcher = ThreadPoolExecutor(1, "device-clock")

    def __call__(self, program: Callable[..., Any], *arguments: Any) -> Any:
        """`program(*arguments)`, which may return before the results are there."""
        start, compiling = time.perf_counter(), self._compiling
        results = program(*arguments)
        start = min(start + self._compiling - compiling, time.perf_counter())
        self._watcher.submit(self._watch, start, results)
        return results

    def _note(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self._compiling += duration_secs

    def _watch(self, start: float, results: Any) -> None:
        with suppress(Exception):  # whoever asks for the results is told
            jax.block_until_ready(results)
        end = time.perf_counter()
        with self._lock:
            self._busy += end - max(start, self._until)
            self._until = end

    @property
    def seconds(self) -> float:
        """Busy so far, once all that was dispatched is done."""
        self._watcher.submit(lambda: None).result()
        with self._lock:
            return self._busy


on_devices = DeviceClock()


def step(name: str, number: int, program: Callable[..., Any], *arguments: Any) -> Any:
    """`program(*arguments)` by `on_devices`, as a step of that name and number in a profile."""
    with jax.profiler.StepTraceAnnotation(name, step_num=number):
        return on_devices(program, *arguments)
