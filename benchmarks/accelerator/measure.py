"""Timing in a process of one rival: warm-up, repeats, their median and spread, and batch sizes in turn."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

MARK = "@measured "  # before a line of results, whatever else a library prints
REPEATS_SECONDS = 2.0  # of repeats of one call, at least three

Line = dict[str, Any]


class Work(NamedTuple):
    """One call, and what it does."""

    call: Callable[[], Any]
    amount: float  # of what is counted: frames, seconds of sound, ...
    flops: float = 0.0  # of its matrix products, those that the result needs
    bytes: float = 0.0  # the least that it reads and writes
    compile: float = 0.0  # seconds that compiling it has taken before the first call


def timed(call: Callable[[], Any], wait: Callable[[Any], Any], seconds: float = REPEATS_SECONDS) -> Line:
    """Seconds of a call: of the first, which compiles, and after one more of repeats for `seconds`, at least three.

    wait: blocks until all that a call returned is there.
    """

    def once() -> float:
        start = time.perf_counter()
        wait(call())
        return time.perf_counter() - start

    first, again = once(), once()
    repeats = [once() for _ in range(max(3, min(50, int(seconds / max(again, 1e-6)))))]
    middle = median(repeats)
    spread = {"low": min(repeats), "high": max(repeats), "repeats": len(repeats)}
    return {"seconds": middle, **spread, "first call": first, "compile": max(first - middle, 0.0)}


def by_size(
    sizes: Sequence[Any], make: Callable[[Any], Work], wait: Callable[[Any], Any], end: float, **more: Any
) -> Iterator[Line]:
    """A line for each batch size, while they get faster, fit in memory and there is time until `end`."""
    best = took = 0.0
    for size in sizes:
        if best and time.monotonic() + 1.2 * took > end:
            return
        start = time.monotonic()
        try:
            work = make(size)
            line = timed(work.call, wait)
        except Exception as error:  # out of memory, mostly
            yield {"batch": size, **more, "failed": one_line(error)}
            return
        took = time.monotonic() - start
        rate = work.amount / line["seconds"]
        line["compile"] += work.compile
        rates = {"rate": rate, "flops/s": work.flops / line["seconds"], "bytes/s": work.bytes / line["seconds"]}
        yield {"batch": size, **more, **line, **rates}
        if rate < 1.02 * best:
            return
        best = rate


def one_line(error: BaseException) -> str:
    """An error's kind and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def emit(lines: Iterator[Line]) -> None:
    """Prints each line as soon as it is there, for the process that waits."""
    for line in lines:
        print(f"{MARK}{json.dumps(line)}", flush=True)


def asked() -> tuple[str, bool, float]:
    """What the process that started this one wants: a part, whether at small sizes, and the moment to end by."""
    part, size, seconds = sys.argv[1:]
    return part, size == "small", time.monotonic() + float(seconds)
