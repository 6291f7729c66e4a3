"""Decoding sound and frames with PyAV, whose wheels carry FFmpeg."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mer_jax.data.clips import Absent

SILENCE = 32.8  # int16 RMS of a window up to which it is silent: -60 dB of full scale
WINDOWS_PER_SECOND = 40
SOUNDING_WINDOWS = 4  # that make a sound: 0.1 s; a click is in one or two
RESAMPLING = (
    "filter_size=64:phase_shift=10:cutoff=0.98"  # at 16 kHz flat to 7; aliases: -23 dB at 8 to 9, below -73 above
)
PROBE_RATE = 16_000  # Hz, to which sound is resampled before it is judged
MOST_PIXELS = 2**26  # of a frame: 8192 x 8192; a damaged header may claim any size
LONGEST_SIDE = 1920  # px; larger frames are shrunk to it

Part = TypeVar("Part")  # of a stream: packets or blocks


class Unreadable(Absent):
    """The media file has no such stream, or it cannot be decoded. The message is the reason."""


class Probe(NamedTuple):
    """What a media file says it holds."""

    seconds: float | None
    video: str | None  # "512x512 h264"
    sound: str | None  # "16000 Hz mono aac"
    silent: bool  # there is a sound track, and nothing to hear on it


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """An open container; whatever FFmpeg has to complain about becomes Unreadable."""
    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise Unreadable(f"cannot decode: {getattr(error, 'strerror', None) or error}") from error


def probe(path: Path) -> Probe:
    """Reads the headers, the first frame, and the sound up to where it rises above the noise floor."""
    with opened(path) as container:
        video = sound = None
        silent = False
        if stream := best_stream(container, "video"):
            frame = next(decoded(container, stream), None)
            video = frame and f"{frame.width}x{frame.height} {stream.codec_context.name}"
        if stream := best_stream(container, "audio"):
            container.seek(0)
            blocks = sound_blocks(container, stream, PROBE_RATE)
            if (first := next(blocks, None)) is not None:
                codec = stream.codec_context
                sound = f"{codec.sample_rate} Hz {codec.layout.name} {codec.name}"
                silent = are_silent(chain([first], blocks), PROBE_RATE)
        if not (video or sound):
            raise Unreadable("neither sound nor frames in it")
        seconds = container.duration / av.time_base if container.duration else None
    return Probe(seconds, video, sound, silent)


def read_sound(path: Path, sample_rate: int) -> np.ndarray:
    """The sound track that FFmpeg thinks best as mono int16 [S] at `sample_rate` Hz, any channels and rate in.

    A track that breaks off gives the sound before the break; damaged packets are left out, without a gap.
    """
    with opened(path) as container:
        if not (stream := best_stream(container, "audio")):
            raise Unreadable("no sound track")
        blocks = list(sound_blocks(container, stream, sample_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def sound_blocks(container: av.container.InputContainer, stream: Any, sample_rate: int) -> Iterator[np.ndarray]:
    """A sound track as mono int16 blocks [S], until it ends or breaks off."""
    return until_broken(resampled(decoded(container, stream), sample_rate))


def until_broken(parts: Iterator[Part]) -> Iterator[Part]:
    """Parts until FFmpeg fails; its error if it does so at the first."""
    begun = False
    try:
        for part in parts:
            begun = True
            yield part
    except av.FFmpegError:
        if not begun:
            raise


def resampled(frames: Iterator[av.AudioFrame], sample_rate: int) -> Iterator[np.ndarray]:
    """Frames -> mono int16 blocks [S]. A stream may change its format on the way."""
    for form, alike in groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        first = next(alike)
        graph = resampling_graph(*form, first.layout.nb_channels, sample_rate)
        for frame in chain([first], alike, [None]):
            yield from pulled(graph, frame)


def resampling_graph(sample_format: str, layout: str, rate: int, channels: int, sample_rate: int) -> av.filter.Graph:
    """FFmpeg's resampler at a better setting than its default, which lets aliases of -60 dB pass.

    Of channels whose places are not known, up to 8 have FFmpeg's usual places; more are averaged.
    """
    graph = av.filter.Graph()
    averaged = channels > 8 and layout == f"{channels} channels"
    nodes = [
        graph.add_abuffer(sample_rate=rate, format=sample_format, layout=layout, time_base=Fraction(1, rate)),
        *([graph.add("pan", "mono|c0<" + "+".join(f"c{i}" for i in range(channels)))] if averaged else []),
        graph.add("aresample", f"{sample_rate}:{RESAMPLING}"),
        graph.add("aformat", f"sample_fmts=s16:sample_rates={sample_rate}:channel_layouts=mono"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def pulled(graph: av.filter.Graph, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
    """Pushes one frame, or the end, and takes what is ready."""
    if frame is not None:
        frame.pts = None  # damaged time stamps must not make silence
    graph.push(frame)
    while True:
        try:
            yield graph.pull().to_ndarray()[0]
        except (av.BlockingIOError, av.EOFError):
            return


def is_silent(waveform: np.ndarray, sample_rate: int) -> bool:
    """Whether an int16 waveform [S] never rises above the noise floor for long (see `are_silent`)."""
    step = 10 * sample_rate
    return are_silent((waveform[start : start + step] for start in range(0, waveform.size, step)), sample_rate)


def are_silent(blocks: Iterable[np.ndarray], sample_rate: int) -> bool:
    """Whether a sound in int16 blocks [S] is above the noise floor for less than 0.1 s, or, if shorter, its length.

    A window's RMS is judged without its mean: a constant offset is nothing to hear. Blocks are read up to where it is
    decided.
    """
    window = sample_rate // WINDOWS_PER_SECOND
    sounding = total = 0
    rest = np.zeros(0, np.int16)
    for block in blocks:
        rest = np.concatenate([rest, block])
        count = rest.size // window
        windows, rest = rest[: count * window].reshape(count, window), rest[count * window :]
        sounding += count_sounding(windows)
        total += count
        if sounding >= SOUNDING_WINDOWS:
            return False
    if not total and rest.size:
        sounding, total = count_sounding(rest[None]), 1
    return sounding < max(1, min(SOUNDING_WINDOWS, total))


def count_sounding(windows: np.ndarray) -> int:
    """How many int16 windows [N, S] rise above the noise floor."""
    return int((windows.std(axis=1, dtype=np.float32) > SILENCE).sum())


def best_stream(container: av.container.InputContainer, kind: Literal["video", "audio"]) -> Any:
    """The stream of a kind that FFmpeg thinks best; None where there is none, or no decoder for it."""
    stream = container.streams.best(kind)
    return stream if stream is not None and stream.codec_context is not None else None


def packets(container: av.container.InputContainer, stream: Any) -> Iterator[av.Packet]:
    """A stream's packets, until the file ends or breaks off; the error if it does so at once."""
    return until_broken(packet for packet in container.demux(stream) if packet.size)  # an empty one ends the decoding


def decoded_packets(
    container: av.container.InputContainer, stream: Any
) -> Iterator[tuple[av.Packet | None, Sequence[Any] | None]]:
    """Each packet, None after the last, and the frames that the decoder gives for it, often those of earlier ones.

    None in place of frames: the packet cannot be decoded. If no packet gives any frame, the first error is raised.
    Clips are decoded side by side, so that each needs one thread only.
    """
    stream.codec_context.thread_count = 1
    any_frame, first_error = False, None
    for packet in chain(packets(container, stream), [None]):
        frames = None
        try:
            frames = stream.decode(packet)
        except av.FFmpegError as error:
            first_error = first_error or error
        any_frame = any_frame or bool(frames)
        yield packet, frames
    if first_error and not any_frame:
        raise first_error


def decoded(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    """A stream's frames, but for those of damaged packets (see `decoded_packets`)."""
    for _, frames in decoded_packets(container, stream):
        yield from frames or ()


def frame_times(path: Path) -> tuple[np.ndarray, bool]:
    """When each video frame is shown, sorted [T], in the stream's ticks; and whether the decoded frames carry it too.

    From the packets alone, nothing is decoded. Frames' numbers where the file has no time stamps. Frames that an edit
    list cuts off are not counted.
    """
    with opened(path) as container:
        if not (stream := best_stream(container, "video")):
            raise Unreadable("no video stream")
        times = [packet.pts for packet in packets(container, stream) if not packet.is_discard]
        guessed = container.format.name == "avi"  # which holds no times: FFmpeg numbers its packets as they are stored
    if None in times:
        return np.arange(len(times)), False
    return np.sort(np.array(times, np.int64)), not guessed and len(set(times)) > 1


def choose_frames(times: np.ndarray, choose: Callable[[int], np.ndarray]) -> np.ndarray:
    """Numbers of the frames on show at evenly spaced moments: at a variable rate some are chosen twice or never.

    times: [T] sorted. choose: T -> sorted positions among T moments spread evenly over the clip.
    """
    positions = choose(len(times))
    if len(times) < 3 or times[0] == times[-1]:
        return positions
    tick = (times[-1] - times[0]) / (len(times) - 1)
    return np.searchsorted(times, times[0] + (positions + 0.5) * tick, "right") - 1


@dataclass(frozen=True)
class Block:
    """Some of a clip's decoded frames, converted to RGB when and at the size that is asked for."""

    pictures: Sequence[av.VideoFrame]  # as the decoder gave them
    width: int  # of `frames`: the clip's first picture's, upright, no longer than LONGEST_SIDE
    height: int

    @classmethod
    def of(cls, frames: np.ndarray) -> "Block":
        """A block of frames in memory, uint8 RGB [T, H, W, 3]."""
        pictures = [av.VideoFrame.from_numpy_buffer(frame, "rgb24") for frame in np.ascontiguousarray(frames)]
        return cls(pictures, frames.shape[2], frames.shape[1])

    @cached_property
    def frames(self) -> np.ndarray:
        """uint8 RGB [T, H, W, 3]."""
        return self.resized(self.width, self.height)

    def resized(self, width: int, height: int) -> np.ndarray:
        """uint8 RGB [T, height, width, 3], turned as the display matrix says (phones film sideways)."""
        frames = np.empty((len(self.pictures), height, width, 3), np.uint8)
        resizer = VideoReformatter()
        for target, picture in zip(frames, self.pictures, strict=True):
            turns = round(picture.rotation / 90)
            size = (height, width) if turns % 2 else (width, height)
            # Planes where it is RGB already: FFmpeg scales these faster and without a detour over YUV.
            planes = "gbrp" if picture.format.name == "rgb24" else "rgb24"
            target[:] = np.rot90(resizer.reformat(picture, *size, planes, interpolation="BILINEAR").to_ndarray(), turns)
        return frames


def frame_blocks(path: Path, choose: Callable[[int], np.ndarray] = np.arange, size: int = 16) -> Iterator[Block]:
    """Chosen video frames, at most `size` in a block.

    choose: see `choose_frames`. A clip that breaks off gives the frames before the break; in place of a frame whose
    packet is damaged stands the nearest one that is decoded. Frames longer than LONGEST_SIDE are shrunk to it; all have
    the first one's size.
    """
    times, stamped = frame_times(path)
    numbers = choose_frames(times, choose)
    with opened(path) as container:
        pairs = decoded_packets(container, best_stream(container, "video"))
        frames = chosen(pairs, numbers, times if stamped else None)
        if (first := next(frames, None)) is None:
            raise Unreadable("no frame can be decoded")
        if first.width * first.height > MOST_PIXELS:
            raise Unreadable(f"frames of {first.width}x{first.height} px are larger than any camera's")
        scale = min(1, LONGEST_SIDE / max(first.width, first.height))
        width, height = (max(1, round(side * scale)) for side in (first.width, first.height))
        upright = (height, width) if round(first.rotation / 90) % 2 else (width, height)
        frames = chain([first], frames)
        while pictures := list(islice(frames, size)):
            yield Block(pictures, *upright)


def chosen(
    pairs: Iterator[tuple[av.Packet | None, Sequence[av.VideoFrame] | None]],
    numbers: np.ndarray,
    times: np.ndarray | None,
) -> Iterator[av.VideoFrame]:
    """The frames with these sorted `numbers`; for each that is not decoded, the nearest that is.

    Args:
        pairs: see `decoded_packets`.
        times: of all frames, sorted, in ticks: they tell a decoded frame's number. None: it is counted.
    """
    pending = deque(numbers.tolist())
    sent = count = 0
    last: tuple[int, av.VideoFrame] | None = None
    for packet, frames in pairs:
        sent += packet is not None and not packet.is_discard
        count += frames is None
        for frame in frames or ():
            number = count
            if times is not None and frame.pts is not None:
                # No frame comes before its packet: a damaged time stamp must not end the clip.
                number = min(int(np.searchsorted(times, frame.pts, "right")), sent) - 1
            while pending and pending[0] <= number:
                wish = pending.popleft()
                yield frame if last is None or number - wish < wish - last[0] else last[1]
            if not pending:
                return
            last = number, frame
            count += 1
    if last is not None:
        yield from [last[1]] * len(pending)


def read_frames(path: Path, choose: Callable[[int], np.ndarray] = np.arange) -> np.ndarray:
    """The frames of all blocks, uint8 RGB [T, H, W, 3]."""
    return np.concatenate([block.frames for block in frame_blocks(path, choose)])


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
