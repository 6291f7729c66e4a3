"""Media files opened with PyAV, whose wheels carry FFmpeg: their streams, packets, and what these decode to."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import av
from av.stream import Disposition

from mer_jax.data.clips import Absent
from mer_jax.runtime.files import of_the_system, open_regular

# Demuxers that read other files and addresses than the one they are given, and text, which is no media.
REFUSED_FORMATS = {
    "concat", "dash", "ffmetadata", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "webm_dash_manifest",  # playlists
    "aqtitle", "ass", "jacosub", "lrc", "mcc", "microdvd", "mpl2", "mpsub", "pjs", "rcwt", "realtext", "sami", "sbg",
    "scc", "srt", "stl", "subviewer", "subviewer1", "sup", "tedcaptions", "vobsub", "vplayer", "webvtt",  # subtitles
    "bin", "idf", "tty", "xbin",  # text, painted
}  # fmt: skip
OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(sorted(av.formats_available - REFUSED_FORMATS)),
    "pattern_type": "none",  # %03d.png is one picture's name
}
# Of titles in a file; from version 19 on PyAV replaces what is no UTF-8 by itself.
ANY_ENCODING: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails  # covers and previews, which are no video

Part = TypeVar("Part")  # of a stream: packets or blocks


class Unreadable(Absent):
    """The media file has no such stream, or it cannot be decoded. The message is the reason."""


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """An open container; whatever FFmpeg has to complain about becomes Unreadable.

    The path is that of a file, whatever FFmpeg would take its name for, and nothing but this file is read.

    Raises:
        OSError: the system does not give the file (`of_the_system`).
    """
    try:
        open_regular(path).close()
        try:
            container = av.open(f"file:{os.path.abspath(path)}", options=OPTIONS, **ANY_ENCODING)
        except av.ArgumentError as error:
            raise Unreadable("cannot decode: no media, or a playlist, subtitles or text") from error
        with container:
            yield container
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        if of_the_system(error):
            raise
        if isinstance(error, av.FFmpegError) and error.errno in (errno.EIO, errno.ESTALE):
            read_through(path)  # FFmpeg says so of a damaged file, too
        raise Unreadable(f"cannot decode: {getattr(error, 'strerror', None) or error}") from error


def read_through(path: Path) -> None:
    """Reads a file to its end. OSError where the system does not give it."""
    with open_regular(path) as file:
        while file.read(2**20):
            pass


def check_media(path: Path) -> None:
    """Raises Unreadable for a file that is no media: a worker's job."""
    with opened(path):
        pass


def media_seconds(path: Path) -> float | None:
    """How long a file says that it is; None where it says nothing."""
    with opened(path) as container:
        return container.duration / av.time_base if container.duration else None


def recording_seconds(path: Path) -> float:
    """How long a file says that it is, or by its packets where it says nothing (browsers' recordings); 0.0: unknown."""
    return media_seconds(path) or last_packet(path)


def most_seconds(path: Path) -> float:
    """How long a file says that it is, or by its packets if that is more: it may say what it likes."""
    return max(media_seconds(path) or 0.0, last_packet(path))


def last_packet(path: Path) -> float:
    """Seconds from a file's beginning to the end of its last packet; 0.0 where packets have no times."""
    with opened(path) as container:
        ends = [
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in until_broken(container.demux())
            if packet.pts is not None and packet.time_base
        ]
        return max(ends, default=0.0) - (container.start_time or 0) / av.time_base if ends else 0.0


def streams_of(container: av.container.InputContainer, kind: Literal["video", "audio"]) -> list[Any]:
    """The streams of a kind for which there is a decoder, without pictures attached to the file."""
    streams: Sequence[Any] = container.streams.video if kind == "video" else container.streams.audio
    return [stream for stream in streams if stream.codec_context is not None and not stream.disposition & PICTURES]


def best_stream(container: av.container.InputContainer, kind: Literal["video", "audio"]) -> Any:
    """Of `streams_of` the one that FFmpeg thinks best, else the first; None where there is none."""
    streams, best = streams_of(container, kind), container.streams.best(kind)
    return next((stream for stream in streams if stream is best), streams[0] if streams else None)


def sound_track(container: av.container.InputContainer, track: str = "") -> Any:
    """A sound track: the best, or the one of this number (from 0) or language (as in the file: "eng").

    Raises:
        Unreadable: there is no such track, or no decoder for it.
    """
    tracks = container.streams.audio
    if track:
        matches = [s for i, s in enumerate(tracks) if track in (str(i), s.language)]
    else:
        matches = [best_stream(container, "audio")]
    if not matches and tracks:
        raise Unreadable(f"no sound track {track!r} (there: {'; '.join(map(track_name, tracks))})")
    if not matches or matches[0] is None or matches[0].codec_context is None:
        raise Unreadable("no sound track")
    return matches[0]


def track_name(stream: Any) -> str:
    """A stream's number among its kind, from 0, and its language: "track 1, eng"."""
    number = [other.index for other in getattr(stream.container.streams, stream.type)].index(stream.index)
    return f"track {number}" + (f", {stream.language}" if stream.language else "")


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


def packets(container: av.container.InputContainer, stream: Any) -> Iterator[av.Packet]:
    """A stream's packets, until the file ends or breaks off; the error if it does so at once."""
    return until_broken(packet for packet in container.demux(stream) if packet.size)  # an empty one ends the decoding


def is_shown(packet: av.Packet) -> bool:
    """Whether its frame is: not one that an edit list cuts off, or that only serves others (VP8, VP9)."""
    if packet.is_discard:
        return False
    codec = packet.stream.codec_context.name
    if codec not in ("vp8", "vp9"):
        return True
    head, last = memoryview(packet)[0], memoryview(packet)[-1]
    if codec == "vp8":
        return bool(head >> 4 & 1)
    # show_existing_frame and show_frame; a superframe, told by its last byte, holds one that is shown.
    return bool(head >> 3 & 1 or head >> 1 & 1 or last >> 5 == 0b110)


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
