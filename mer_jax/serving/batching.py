"""Clips from many requests: decoded side by side, on the device together.

All methods belong to one event loop; what takes long is done in threads, which wait for decoding processes and the
device.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from mer_jax.data.clips import Absent
from mer_jax.data.recording import Contents
from mer_jax.data.streams import most_seconds
from mer_jax.data.workers import map_in_workers
from mer_jax.recognition.contents import read_files
from mer_jax.recognition.files import File
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.recognition.subtitles import Subtitles
from mer_jax.recognition.timeline import Moment, recognised, windows_of
from mer_jax.runtime.errors import DataError
from mer_jax.serving.limits import Limits
from mer_jax.serving.metrics import Metrics

SHARD = 4  # windows of a timeline whose results come together


class TooLong(DataError):
    """The clip is longer than `Limits.max_seconds`."""


class Gone(Exception):
    """Nobody waits for the result any more."""


class Decoded(NamedTuple):
    """A clip that waits for the device."""

    file: File
    contents: Contents | Absent
    line: asyncio.Future[dict[str, Any]]


class Batches:
    """A recognizer at the service of requests."""

    def __init__(self, recognizer: Recognizer, limits: Limits, metrics: Metrics):
        self.recognizer, self.limits, self.metrics = recognizer, limits, metrics
        extraction = recognizer.extraction
        # So that a hostile clip does not keep a process busy for long after its request has had its answer.
        recognizer.extraction = replace(extraction, time_limit=min(extraction.time_limit, limits.timeout))
        workers = extraction.workers or os.cpu_count() or 1
        self.decoders = ThreadPoolExecutor(workers, "decoding")
        self.device = ThreadPoolExecutor(1, "device")
        self.timelines = ThreadPoolExecutor(max(1, workers // 2), "timeline")  # which would keep clips waiting for long
        self.room = asyncio.Semaphore(workers + limits.batch_clips)  # clips whose contents are held in memory
        self.decoded = asyncio.Queue[Decoded]()
        self.batching = asyncio.create_task(self.batch())

    def close(self) -> None:
        """Begins nothing more, and waits for nothing."""
        self.batching.cancel()
        for pool in (self.decoders, self.device, self.timelines):
            pool.shutdown(wait=False, cancel_futures=True)

    async def line(self, file: File) -> dict[str, Any]:
        """The line of a file (see `Recognizer.batch`). When cancelled it costs at most some frames more.

        Raises:
            TooLong: it is longer than clips may be.
        """
        gone, loop = Event(), asyncio.get_running_loop()
        async with self.room:
            try:
                contents = await loop.run_in_executor(self.decoders, self.decode, file, gone)
            finally:
                gone.set()
            waiting = Decoded(file, contents, loop.create_future())
            del contents
            self.decoded.put_nowait(waiting)
            return await waiting.line

    def decode(self, file: File, gone: Event) -> Contents | Absent:
        """A decoder's job; see `read_files`."""

        def find(frames: np.ndarray) -> Any:
            if gone.is_set():
                raise Gone  # which ends the process that asks
            return recognizer.detector.find(frames)

        recognizer = self.recognizer
        self.check_length(file)
        (contents,) = read_files([file], recognizer.audio_track, recognizer.wanted(), recognizer.extraction, find)
        return contents

    def check_length(self, file: File) -> None:
        """Raises TooLong. What is no media passes: others say so."""
        limit, most = self.recognizer.extraction.time_limit, self.limits.max_seconds
        (seconds,) = map_in_workers(most_seconds, [file.path], lambda path: limit, count=1)
        if not isinstance(seconds, Absent) and seconds > most:
            raise TooLong(f"{seconds:.0f} s long, where {most:g} s are the most that this server takes")

    async def batch(self) -> None:
        """Sends what is decoded to the device, for as long as the server runs."""
        while True:
            batch = [await self.decoded.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.wait_ms / 1000):
                    while len(batch) < self.limits.batch_clips:
                        batch.append(await self.decoded.get())
            await self.answer([each for each in batch if not each.line.done()])
            del batch  # and their contents

    async def answer(self, batch: list[Decoded]) -> None:
        """Sets the lines of a batch; where it fails as a whole, of each clip alone."""
        if not batch:
            return
        # Strangers' groups have nothing to do with each other.
        files = [each.file._replace(group=str(i) if each.file.group else None) for i, each in enumerate(batch)]
        job = partial(self.recognizer.lines, files, iter([each.contents for each in batch]), small=True)
        try:
            lines = await asyncio.get_running_loop().run_in_executor(self.device, job)
        except Exception as error:
            if len(batch) > 1:
                for each in batch:
                    await self.answer([each])
            elif not batch[0].line.done():
                batch[0].line.set_exception(error)
            return
        self.metrics.batches.observe(len(batch))
        for each, line in zip(batch, lines, strict=True):
            if not each.line.done():
                each.line.set_result(line | each.file.named)

    async def moments(self, file: File, window: float, step: float) -> AsyncGenerator[int | list[Moment], None]:
        """How many windows a recording has, then what they say, some at a time.

        Raises:
            DataError: it is too long, cannot be decoded, or does not say how long it is.
        """
        results, gone, loop = asyncio.Queue[Any](), Event(), asyncio.get_running_loop()

        def put(result: Any) -> None:
            loop.call_soon_threadsafe(results.put_nowait, result)

        job = loop.run_in_executor(self.timelines, self.recognise, file, window, step, gone, put)
        job.add_done_callback(lambda _: results.put_nowait(None))
        try:
            while (result := await results.get()) is not None:
                yield result
            await job  # raises what went wrong
        finally:
            gone.set()
            job.cancel()

    def recognise(self, file: File, window: float, step: float, gone: Event, put: Callable[[Any], object]) -> None:
        """A timeline thread's job."""
        if gone.is_set():
            return
        self.check_length(file)
        windows = windows_of(file, window, step)
        put(len(windows))
        for moments in recognised(self.recognizer, file, windows, Subtitles(), SHARD):
            put(moments)
            if gone.is_set():
                return
