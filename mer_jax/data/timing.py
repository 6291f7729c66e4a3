"""When each frame of a video is shown, and which frames are chosen for that."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mer_jax.data.streams import Unreadable, best_stream, decoded_packets, is_shown, opened, packets

PROGRESSIVE = 1  # FFmpeg's AV_FIELD_PROGRESSIVE
OVERFLOW = 12 * 3600  # s ahead: FFmpeg may have taken a fall for time that overflows 33 bits, after 26 hours


class Timing(NamedTuple):
    """A video's frames in the order that they are shown in."""

    times: np.ndarray  # int64 [T] when each is shown, sorted, in the stream's ticks
    stamps: np.ndarray | None  # int64 [T] the time stamp that it carries when it is decoded; None: frames are counted


def frame_times(path: Path) -> Timing:
    """From the packets alone: nothing is decoded, unless they cannot tell how many frames there are.

    A jump back in time starts a new part, which is shown after the one before it. A frame is shown for at most one
    second, however far the next time stamp is. Frames that an edit list cuts off are not counted.

    Raises:
        Unreadable: there is no video stream, or it cannot be decoded.
    """
    with opened(path) as container:
        if not (stream := best_stream(container, "video")):
            raise Unreadable("no video stream")
        second = max(1, round(1 / stream.time_base))
        shown = [(p.pts, p.dts, p.is_keyframe) for p in packets(container, stream) if is_shown(p)]
        # A field may be a packet of its own, under a time stamp of its own.
        progressive = stream.codec_context.name != "h264" or stream.codec_context.field_order == PROGRESSIVE
        guessed = container.format.name == "avi"  # which holds no times: FFmpeg numbers its packets as they are stored
    stamped = [(stamp, time, may_start) for stamp, time, may_start in shown if stamp is not None]
    if progressive and stamped and len(stamped) == len(shown):
        parts = [np.sort(part) for part in split_where_time_falls(stamped, second)]
        if all((np.diff(part) > 0).all() for part in parts):
            return Timing(joined(parts, second), None if guessed else np.concatenate(parts))
    stamps = decoded_stamps(path)
    stamped = [(stamp, stamp, True) for stamp in stamps if stamp is not None]
    if not stamped or len(stamped) < len(stamps):
        return Timing(np.arange(len(stamps)), None)
    return Timing(joined(split_where_time_falls(stamped, second), second), None)


def decoded_stamps(path: Path) -> list[int | None]:
    """The time stamp of each frame that is decoded, and None for each packet that cannot be."""
    with opened(path) as container:
        pairs = decoded_packets(container, best_stream(container, "video"))
        return [stamp for _, frames in pairs for stamp in ([None] if frames is None else [f.pts for f in frames])]


def split_where_time_falls(frames: list[tuple[int, int | None, bool]], second: int) -> list[np.ndarray]:
    """Stamps in parts [t], each of which starts where a time is less than the one before it.

    frames: stamp; the time of decoding, if that is known; whether a part may start here. Elsewhere it may fall where
    FFmpeg has made it up.
    """
    parts, latest = [[frames[0][0]]], frames[0][1]
    for stamp, time, may_start in frames[1:]:
        if time is not None:
            if may_start and latest is not None and not 0 <= time - latest < OVERFLOW * second:
                parts.append([])
            latest = time
        parts[-1].append(stamp)
    return [np.array(part, np.int64) for part in parts]


def joined(parts: list[np.ndarray], second: int) -> np.ndarray:
    """Sorted parts [t], one after the other, without gaps of more than a second -> [T]."""
    steps = [np.minimum(np.diff(part), second) for part in parts]
    usual = 1  # between the last frame of a part and the first of the next
    if len(parts) > 1 and max(map(len, parts)) > 1:
        usual = int(np.median(np.concatenate(steps)))
    gaps = np.concatenate([np.append(usual, step) for step in steps])  # before each frame
    gaps[0] = parts[0][0]
    return np.cumsum(gaps)


def choose_frames(times: np.ndarray, choose: Callable[[int], np.ndarray]) -> np.ndarray:
    """Numbers of the frames on show at evenly spaced moments: at a variable rate some are chosen twice or never.

    times: [T] sorted. choose: T -> sorted positions among T moments spread evenly over the clip.
    """
    positions = choose(len(times))
    if len(times) < 3 or times[0] == times[-1]:
        return positions
    tick = (times[-1] - times[0]) / (len(times) - 1)
    return np.searchsorted(times, times[0] + (positions + 0.5) * tick, "right") - 1


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


def at_most(most: int, total: int) -> np.ndarray:
    """All frames, or every second, third, ... where there would be more than `most`."""
    return np.arange(0, total, -(-total // most) or 1)
