"""Ending in good order."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: what schedulers send before they kill."""


def leave(number: int, _: FrameType | None = None) -> NoReturn:
    """Ends this process at once, with a line and the exit code by which shells count a signal."""
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    os.write(2, f"error: {how}; the same command goes on where this one has ended\n".encode())
    os._exit(128 + number)


def leave_on_signals() -> None:
    """For imports and for the very end, when there is nothing to unwind and others would print what they were at."""
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as shells have it for what runs in the background
            signal.signal(number, leave)


def signal_of(stop: type[BaseException]) -> int:
    """The signal that an exception tells of."""
    return signal.SIGTERM if issubclass(stop, Terminated) else signal.SIGINT


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that blocks are left in good order."""

    def unwind(number: int, _: FrameType | None) -> NoReturn:
        raise Terminated

    def unraisable(info: Any) -> None:
        if issubclass(info.exc_type, KeyboardInterrupt):  # it came within a finaliser, which lets none out
            leave(signal_of(info.exc_type))
        sys.__unraisablehook__(info)

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: unwind}
    handlers = {number: handler for number, handler in handlers.items() if signal.getsignal(number) != signal.SIG_IGN}
    hook = sys.unraisablehook
    usual = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that start in the block never get SIGINT or SIGTERM, also those sent to all of a group or job.

    They end with their parent. One that died earlier would look like the fault of the clip that it was at.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Notes the first SIGINT or SIGTERM instead of dying of it; gives a function that says whether one came.

    The block is to finish what it has begun; at its end the signal takes its usual course. A second signal does so
    at once. In another thread than the main one, to which signals come, it notes none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each, handler in usual.items():
            signal.signal(each, handler)

    usual = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(received)
    finally:
        for each, handler in usual.items():
            signal.signal(each, handler)
    if received:
        signal.raise_signal(received[0])
