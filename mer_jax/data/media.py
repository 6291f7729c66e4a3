"""Decoding sound and frames with PyAV, whose wheels carry FFmpeg."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

SILENCE = 33  # int16 peak below which a track holds no speech: -60 dB of full scale


class Unreadable(Exception):
    """The media file has no such stream, or it cannot be decoded. The message is the reason."""


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """An open container; whatever FFmpeg has to complain about becomes Unreadable."""
    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise Unreadable(f"cannot decode: {getattr(error, 'strerror', None) or error}") from error


def read_sound(path: Path, sample_rate: int) -> np.ndarray:
    """The first sound track as mono int16 [S] at `sample_rate` Hz, any channel layout and rate in."""
    with opened(path) as container:
        if not container.streams.audio:
            raise Unreadable("no sound track")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
        blocks = []
        for frame in container.decode(container.streams.audio[0]):
            blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
        blocks += [block.to_ndarray()[0] for block in resampler.resample(None)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether an int16 waveform [S] never rises above the noise floor."""
    return waveform.size == 0 or int(np.abs(waveform.astype(np.int32)).max()) < SILENCE


def count_frames(path: Path) -> int:
    """Number of video frames, from the packets alone: nothing is decoded."""
    with opened(path) as container:
        if not container.streams.video:
            raise Unreadable("no video stream")
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def read_frames(path: Path, choose: Callable[[int], np.ndarray] = np.arange) -> np.ndarray:
    """Chosen video frames as uint8 RGB [T, H, W, 3].

    choose: number of frames in the clip -> sorted positions of those wanted. Only these are converted to RGB.
    A clip that breaks off gives the frames before the break.
    """
    wanted = choose(count_frames(path))
    frames: list[np.ndarray] = []
    with opened(path) as container:
        stream = container.streams.video[0]
        try:
            for position, frame in enumerate(container.decode(stream)):
                if position > wanted[-1]:
                    break
                if position == wanted[len(frames)]:
                    frames.append(frame.to_ndarray(format="rgb24"))
        except av.FFmpegError:
            if not frames:
                raise
    if not frames:
        raise Unreadable("no frame can be decoded")
    return np.stack(frames)


def segment_centres(num_frames: int, total: int) -> np.ndarray:
    """The middle frame of each of `num_frames` equal segments; all frames of a shorter clip."""
    if total <= num_frames:
        return np.arange(total)
    return ((np.arange(num_frames) + 0.5) * total / num_frames).astype(int)


def segment_draws(num_frames: int, total: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each of `num_frames` equal segments; all frames of a shorter clip."""
    if total <= num_frames:
        return np.arange(total)
    edges = np.arange(num_frames + 1) * total // num_frames
    return rng.integers(edges[:-1], edges[1:])
