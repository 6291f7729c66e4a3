"""Ending in good order."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: what schedulers send before they kill."""


def raise_on_sigterm() -> None:
    """Makes SIGTERM unwind the stack as Ctrl-C does, so that blocks are left in good order."""

    def unwind(number: int, _: FrameType | None) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, unwind)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Notes the first SIGINT or SIGTERM instead of dying of it; gives a function that says whether one came.

    The block is to finish what it has begun; at its end the signal takes its usual course. A second signal does so
    at once.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each, handler in usual.items():
            signal.signal(each, handler)

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for each, handler in usual.items():
            signal.signal(each, handler)
    if received:
        signal.raise_signal(received[0])
