"""The frames of a video: those that are chosen, upright, as RGB."""

import math
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mer_jax.data.streams import Unreadable, best_stream, decoded_packets, is_shown, opened, packets
from mer_jax.data.timing import choose_frames, frame_times

MOST_PIXELS = 2**26  # of a frame: 8192 x 8192; a damaged header may claim any size
LONGEST_SIDE = 1920  # px; larger frames are shrunk to it
WORTH_A_JUMP = 50  # frames that are decoded in vain rather than looking for a key frame after them
REORDERED = 32  # frames by which the order of decoding may differ from that of showing
ODDEST_PIXEL = 4.0  # width to height, or height to width; a damaged header may claim any

Choose = Callable[[int], np.ndarray]
Pairs = Iterator[tuple[av.Packet | None, Sequence[av.VideoFrame] | None]]  # see `decoded_packets`


@dataclass(frozen=True)
class Block:
    """Some of a clip's decoded frames, converted to RGB when and at the size that is asked for."""

    pictures: Sequence[av.VideoFrame]  # as the decoder gave them; `opaque`: see `turned`
    width: int  # of `frames`: the clip's first picture's, upright, no longer than LONGEST_SIDE
    height: int

    @classmethod
    def of(cls, frames: np.ndarray) -> "Block":
        """A block of frames in memory, uint8 RGB [T, H, W, 3]."""
        pictures = [av.VideoFrame.from_numpy_buffer(frame, "rgb24") for frame in np.ascontiguousarray(frames)]
        return cls(pictures, frames.shape[2], frames.shape[1])

    def some(self, numbers: Sequence[int]) -> "Block":
        """Some of its pictures."""
        return Block([self.pictures[i] for i in numbers], self.width, self.height)

    @cached_property
    def frames(self) -> np.ndarray:
        """uint8 RGB [T, H, W, 3]."""
        return self.resized(self.width, self.height)

    def resized(self, width: int, height: int) -> np.ndarray:
        """uint8 RGB [T, height, width, 3], upright (see `Turn`)."""
        frames = np.empty((len(self.pictures), height, width, 3), np.uint8)
        resizer = VideoReformatter()
        for target, picture in zip(frames, self.pictures, strict=True):
            turn = Turn.of(picture, cast(Turn, picture.opaque or Turn()))
            # Planes where it is RGB already: FFmpeg scales these faster and without a detour over YUV.
            planes = "gbrp" if picture.format.name == "rgb24" else "rgb24"
            size = turn.size(width, height)
            target[:] = turn.applied(resizer.reformat(picture, *size, planes, interpolation="BILINEAR").to_ndarray())
        return frames


class Turn(NamedTuple):
    """How a picture is brought upright, as its display matrix says: phones film sideways, and mirror their owners.

    The matrix is taken for the nearest that turns by right angles; FFmpeg's autorotate does the same with such.
    """

    transposed: bool = False  # first of all
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def of(cls, picture: av.VideoFrame, before: "Turn") -> "Turn":
        """That of a picture; where it does not say, that of the one before."""
        if (matrix := display_matrix(picture)) is None:
            return before
        a, b, c, d = matrix
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        return cls(transposed, (c if transposed else a) < 0, (b if transposed else d) < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) upright -> those of the picture, and the other way round."""
        return (height, width) if self.transposed else (width, height)

    def applied(self, pixels: np.ndarray) -> np.ndarray:
        """A view of the pixels [H, W, 3]."""
        pixels = pixels.swapaxes(0, 1) if self.transposed else pixels
        return pixels[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]


def display_matrix(picture: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """a, b, c, d, by which x, y is shown at a x + c y, b x + d y; None where the picture does not say."""
    data: Any = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("9i", data)
    return a, b, c, d


def oblique(picture: av.VideoFrame) -> float:
    """Degrees between the angle that a picture is to be shown at and the nearest right one, as which it is shown."""
    a, b, *_ = display_matrix(picture) or (1, 0)
    angle = math.degrees(math.atan2(b, a))
    return abs(angle - 90 * round(angle / 90))


def shown_size(stream: Any, picture: av.VideoFrame) -> tuple[int, int]:
    """(width, height) of a picture with square pixels, before it is turned: DVDs and camcorders store wider ones."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return (round(picture.width * ratio) if ODDEST_PIXEL > ratio > 1 / ODDEST_PIXEL else picture.width), picture.height


def frame_blocks(path: Path, choose: Choose | None = None, size: int = 16) -> Iterator[Block]:
    """Chosen video frames, at most `size` in a block.

    A clip that breaks off gives the frames before the break; in place of a frame whose packet is damaged stands the
    nearest one that is decoded. Frames longer than LONGEST_SIDE are shrunk to it; all have the first one's size.

    choose: see `choose_frames`; None takes every frame once.
    """
    times, stamps = frame_times(path)
    numbers = choose_frames(times, choose) if choose else np.arange(len(times))
    yield from numbered_blocks(path, numbers, stamps, size)


def numbered_blocks(
    path: Path, numbers: np.ndarray, stamps: np.ndarray | None, size: int = 16, begin: int = 0
) -> Iterator[Block]:
    """`frame_blocks` of the frames with these sorted `numbers`.

    stamps: see `Timing`. begin: the key frame from which on the video is decoded, see `key_frame_before`.
    """
    with opened(path) as container:
        stream = best_stream(container, "video")
        pairs = turned(decoded_packets(container, stream))
        if begin and stamps is not None:
            container.seek(int(stamps[begin]), stream=stream)
            pairs = not_before(pairs, int(stamps[begin]))
        frames = chosen(pairs, numbers, stamps, begin)
        if (first := next(frames, None)) is None:
            raise Unreadable("no frame can be decoded")
        if first.width * first.height > MOST_PIXELS:
            raise Unreadable(f"frames of {first.width}x{first.height} px are larger than any camera's")
        sides = shown_size(stream, first)
        scale = min(1, LONGEST_SIDE / max(sides))
        width, height = (max(1, round(side * scale)) for side in sides)
        frames, turn = chain([first], frames), Turn.of(first, cast(Turn, first.opaque))
        while pictures := list(islice(frames, size)):
            yield Block(pictures, *turn.size(width, height))


def key_frame_before(path: Path, number: int, stamps: np.ndarray | None) -> int:
    """The frame from which decoding has to begin to give that of this number; 0 where the file allows no jump."""
    if stamps is None or (np.diff(stamps) <= 0).any():
        return 0
    for earlier in (0, REORDERED):  # containers look for times of decoding
        target = number - earlier
        if target < WORTH_A_JUMP:
            return 0
        try:
            with opened(path) as container:
                stream = best_stream(container, "video")
                container.seek(int(stamps[target]), stream=stream)
                first = next(packets(container, stream), None)
        except Unreadable:
            return 0
        if first is not None and first.is_keyframe and first.pts is not None and first.pts <= stamps[number]:
            place = int(np.searchsorted(stamps, first.pts))
            return place if stamps[place] == first.pts and is_shown(first) else 0
    return 0


def not_before(pairs: Pairs, stamp: int) -> Pairs:
    """Without the frames before a key frame that are decoded after it, and lean on others before it."""
    for packet, frames in pairs:
        leads = packet is not None and packet.pts is not None and packet.pts < stamp
        kept = frames and [frame for frame in frames if frame.pts is None or frame.pts >= stamp]
        yield None if leads else packet, kept


def turned(pairs: Pairs) -> Pairs:
    """Frames with the last key frame's Turn as `opaque`: a bitstream may say it at its first frame alone, for all."""
    turn = Turn()
    for packet, frames in pairs:
        for frame in frames or ():
            if frame.key_frame:  # asking each costs a third of its decoding
                turn = Turn.of(frame, turn)
            frame.opaque = Turn(*turn)  # PyAV forgets an object with the first frame that has it
        yield packet, frames


def chosen(pairs: Pairs, numbers: np.ndarray, stamps: np.ndarray | None, begin: int = 0) -> Iterator[av.VideoFrame]:
    """The frames with these sorted `numbers`; for each that is not decoded, the nearest that is.

    Args:
        stamps: see `Timing`.
        begin: the number of the first frame.
    """
    pending = deque(numbers.tolist())
    sent = count = begin
    last: tuple[int, av.VideoFrame] | None = None
    for packet, frames in pairs:
        sent += packet is not None and is_shown(packet)
        count += stamps is None and frames is None
        for frame in frames or ():
            number = count
            if stamps is not None and frame.pts is not None:
                # No frame comes before its packet. One with a stamp of its own making is the next.
                lost = np.flatnonzero(stamps[count:sent] == frame.pts)
                number += int(lost[0]) if lost.size else 0
            while pending and pending[0] <= number:
                wish = pending.popleft()
                yield frame if last is None or number - wish < wish - last[0] else last[1]
            if not pending:
                return
            last = number, frame
            count = number + 1
    if last is not None:
        yield from [last[1]] * len(pending)


def read_frames(path: Path, choose: Choose | None = None) -> np.ndarray:
    """The frames of all blocks (see `frame_blocks`), uint8 RGB [T, H, W, 3]."""
    return np.concatenate([block.frames for block in frame_blocks(path, choose)])
