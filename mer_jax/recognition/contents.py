"""What is read of files: processes decode, this one finds the faces, a thread reads ahead of whoever takes it."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, time_limit
from mer_jax.data.recording import Contents, Recording, Wanted, read_window, read_windows
from mer_jax.data.streams import Unreadable
from mer_jax.data.workers import map_in_workers, step_through
from mer_jax.recognition.files import File

AHEAD = 4  # files that are read while the device is busy, beside those that the processes are at
END = object()

T = TypeVar("T")
Find = Callable[[np.ndarray], Any]  # the faces in frames, see `FaceDetector.find`


def read_files(
    files: Sequence[File], track: str, wanted: Wanted, settings: ExtractionSettings, find: Find
) -> Iterator[Contents | Unreadable]:
    """The contents of each file, in order; Unreadable for one that is no media."""
    recordings = [Recording(file.path, track, (file.window,), file.hidden) for file in files]

    def read(some: Sequence[Recording], wanted: Wanted) -> Iterator[Any]:
        job = partial(read_window, wanted=wanted)
        return map_in_workers(job, some, partial(seconds, settings=settings), count=settings.workers, answer=find)

    for recording, contents in zip(recordings, read(recordings, wanted), strict=True):
        if isinstance(contents, Absent) and not isinstance(contents, Unreadable):  # its process has died: of what?
            alone = [next(read([recording], part)) for part in wanted.one_by_one()]
            contents = {}
            for part, each in zip(wanted.one_by_one(), alone, strict=True):
                contents |= dict.fromkeys(part.modalities, each) if isinstance(each, Absent) else each
        yield contents


def read_recording(
    recording: Recording, wanted: Wanted, settings: ExtractionSettings, find: Find
) -> Iterator[Contents | Absent]:
    """The contents of each of a recording's windows, in order; where its process dies, the reason for the rest.

    Raises Absent for what is no media.
    """
    windows: list[Contents] = []

    def answer(question: np.ndarray | Contents) -> Any:
        return find(question) if isinstance(question, np.ndarray) else windows.append(question)

    count = 0
    try:
        limit = seconds(recording, settings)
        for _ in step_through(partial(read_windows, wanted=wanted), recording, limit, answer):
            yield from windows
            count += len(windows)
            windows.clear()
    except Absent as reason:
        if not count:
            raise
        yield from repeat(reason, len(recording.windows) - count)


def seconds(recording: Recording, settings: ExtractionSettings) -> float:
    """That a file may take."""
    return time_limit(Clip("", "test", recording.path), settings.time_limit)


def read_ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, read in a thread while others are at work."""
    reader = ThreadPoolExecutor(1, "reading ahead")
    try:
        ahead = deque(reader.submit(next, items, END) for _ in range(AHEAD))
        while (item := ahead.popleft().result()) is not END:
            ahead.append(reader.submit(next, items, END))
            yield item  # type: ignore[misc]
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
