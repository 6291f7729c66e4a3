"""What media files hold: the names that the rest of the package, notebooks and tests read them by."""

from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av

from mer_jax.data.frames import Block, frame_blocks, oblique, read_frames
from mer_jax.data.sound import Levels, are_silent, is_silent, read_sound, sound_blocks
from mer_jax.data.streams import (
    Unreadable,
    best_stream,
    decoded,
    media_seconds,
    opened,
    sound_track,
    streams_of,
    track_name,
)
from mer_jax.data.timing import at_most, choose_frames, frame_times, segment_centres, segment_draws

__all__ = [
    "Block",
    "Probe",
    "Unreadable",
    "are_silent",
    "at_most",
    "choose_frames",
    "frame_blocks",
    "frame_times",
    "is_silent",
    "media_seconds",
    "opened",
    "probe",
    "read_frames",
    "read_sound",
    "segment_centres",
    "segment_draws",
]

PROBE_RATE = 16_000  # Hz, to which sound is resampled before it is judged


class Probe(NamedTuple):
    """What a media file says it holds."""

    seconds: float | None
    video: str | None  # "512x512 h264"
    sound: str | None  # "16000 Hz mono aac"
    silent: bool  # there is a sound track, and nothing to hear on it
    notes: tuple[tuple[str, str], ...] = ()  # (modality, what was chosen from, or why nothing was)


def probe(path: Path, track: str = "") -> Probe:
    """Reads the headers, the first frame, and the sound up to where it rises above the noise floor.

    track: see `read_sound`.

    Raises:
        Unreadable: the file holds neither sound nor frames.
    """
    notes = []
    with opened(path) as container:
        video = None
        if stream := best_stream(container, "video"):
            frame = next(decoded(container, stream), None)
            if frame:
                video = f"{frame.width}x{frame.height} {stream.codec_context.name}"
                if (degrees := oblique(frame)) > 1:
                    notes.append(("video", f"turned by no right angle (read at the nearest, {degrees:.0f} off)"))
            if (count := len(streams_of(container, "video"))) > 1:
                notes.append(("video", f"{count} video streams ({track_name(stream)}, is read)"))
        seconds = container.duration / av.time_base if container.duration else None
    with opened(path) as container:  # anew: where time starts again there is no way back to the start
        sound, silent, levels = None, False, Levels()
        try:
            stream = sound_track(container, track)
        except Unreadable as reason:
            notes += [("speech", str(reason))] * bool(container.streams.audio)
        else:
            blocks = sound_blocks(container, stream, PROBE_RATE, levels)
            if (first := next(blocks, None)) is not None:
                codec = stream.codec_context
                sound = f"{codec.sample_rate} Hz {codec.layout.name} {codec.name}"
                silent = are_silent(chain([first], blocks), PROBE_RATE)
            if (count := len(container.streams.audio)) > 1:
                notes.append(("speech", f"{count} sound tracks ({track_name(stream)}, is read)"))
    if not (video or sound):
        raise Unreadable("neither sound nor frames in it")
    if levels.lone_channel is not None:
        notes.append(("speech", f"channels that a mix would silence (channel {levels.lone_channel} alone is read)"))
        silent = False
    return Probe(seconds, video, sound, silent, tuple(notes))
