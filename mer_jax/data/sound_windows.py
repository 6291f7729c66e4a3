"""The sound of parts of a recording, by its time stamps, in one pass."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import av
import numpy as np

from mer_jax.data.sound import Levels, resampled
from mer_jax.data.streams import Unreadable, decoded, opened, sound_track, until_broken

LEAD = 1.0  # s before a window at which decoding starts, for codecs that lean on what came before
GAP = 0.2  # s of difference from which on a time stamp is believed, and not the count of samples
TOLD = 30.0  # s of sound by which the channels' levels are judged


def sound_windows(
    path: Path, sample_rate: int, track: str, windows: Sequence[tuple[float, float]]
) -> Iterator[np.ndarray]:
    """Mono int16 [S] of each window (start, end; s from the file's beginning), in the order of their starts.

    A window beyond the sound's end is cut, perhaps to nothing; where time stamps leave a gap there is silence. Channels
    as of `read_sound`, judged by the first half minute.

    Raises:
        Unreadable: as `read_sound`.
    """
    start, end = windows[0]
    levels = Levels()
    for _ in timed_blocks(path, sample_rate, track, start, min(end, start + TOLD), levels=levels):
        pass
    blocks = timed_blocks(path, sample_rate, track, start, max(end for _, end in windows), channel=levels.lone_channel)
    held = deque[tuple[float, np.ndarray]]()  # when each begins, in order
    for start, end in windows:
        while (not held or ends(held[-1], sample_rate) < end) and (block := next(blocks, None)):
            held.append(block)
        while held and ends(held[0], sample_rate) <= start:
            held.popleft()
        yield cut(held, start, end, sample_rate)


def ends(block: tuple[float, np.ndarray], sample_rate: int) -> float:
    """When a block ends, s."""
    return block[0] + len(block[1]) / sample_rate


def cut(blocks: Sequence[tuple[float, np.ndarray]], start: float, end: float, sample_rate: int) -> np.ndarray:
    """The samples from start to end, at most up to the last block's end."""
    last = min(end, max((ends(block, sample_rate) for block in blocks), default=start))
    samples = np.zeros(max(0, round((last - start) * sample_rate)), np.int16)
    for begins, block in blocks:
        place = round((begins - start) * sample_rate)
        into = samples[max(0, place) :][: len(block) + min(0, place)]
        into[:] = block[max(0, -place) :][: len(into)]
    return samples


def timed_blocks(
    path: Path,
    sample_rate: int,
    track: str,
    start: float,
    end: float,
    channel: int | None = None,
    levels: Levels | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """Mono int16 blocks [S] from about `start` to about `end`, and when each begins, s from the file's beginning."""
    with opened(path) as container:
        stream = sound_track(container, track)
        origin = (container.start_time or 0) / av.time_base
        if start > LEAD:
            with suppress(av.FFmpegError):  # it stays at the beginning where the file allows no jump
                container.seek(int((start - LEAD + origin) / float(stream.time_base)), stream=stream)
        clock = Clock(origin, jumped=start > LEAD)
        frames: Iterator[av.AudioFrame] = decoded(container, stream)
        frames = levels.measured(frames) if levels else frames
        for begins, run in groupby(until_broken(frames), clock.begin_of):
            samples = 0
            for block in resampled(run, sample_rate, channel):
                yield begins + samples / sample_rate, block
                samples += len(block)
                if begins + samples / sample_rate > end:
                    return


class Clock:
    """Tells apart the runs of frames that follow each other without a gap."""

    def __init__(self, origin: float, jumped: bool):
        self.origin, self.jumped = origin, jumped
        self.began = self.expected = -math.inf  # when the run began and the next frame should, s

    def begin_of(self, frame: av.AudioFrame) -> float:
        """When a frame's run began. Time that goes back goes on instead, and so does time that is not stated."""
        if frame.time is not None and frame.time - self.origin > self.expected + GAP:
            self.began = self.expected = frame.time - self.origin
        elif math.isinf(self.expected):
            if self.jumped:
                raise Unreadable("no time stamps in its sound")
            self.began = self.expected = 0.0
        self.expected += frame.samples / frame.sample_rate
        return self.began
