"""Writes small media files for the tests of decoding."""

from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition


def write_video(path, frames, sound=None, rate=8, sample_rate=16_000, lossy=False):
    """frames uint8 [T, H, W, 3] or None, sound int16 [S] or None, as H.264 and ALAC that give every number back.

    lossy: as most files are, H.264 over YUV and AAC.
    """
    with av.open(str(path), "w") as container:
        video = audio = None
        if frames is not None:
            codec, options = ("libx264", {"crf": "1"}) if lossy else ("libx264rgb", {"qp": "0"})
            video = container.add_stream(codec, rate=rate, options={"preset": "ultrafast", **options})
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv444p" if lossy else "rgb24"
        if sound is not None:
            audio = container.add_stream("aac" if lossy else "alac", rate=sample_rate, layout="mono")
        for frame in frames if frames is not None else ():
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if video is not None:
            container.mux(video.encode())
        if sound is not None:
            block = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            block.sample_rate = sample_rate
            container.mux(audio.encode(block))
            container.mux(audio.encode())


def write_copyable(path, count):
    """Numbered frames: a key frame every 12th, of the others two in three need frames after them, and none needs those.

    Packets are stored in the order 0, 3, 1, 2, 6, 4, 5, ...
    """
    options = {"qp": "1", "g": "12", "bf": "2", "b_strategy": "0", "b-pyramid": "none"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        for frame in numbered_frames(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_sound(path, tracks, codec, layout, sample_rate=16_000):
    """tracks: packed int16 [1, S * channels] each."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=sample_rate, layout=layout) for _ in tracks]
        for stream, samples in zip(streams, tracks, strict=True):
            block = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            block.sample_rate, block.pts = sample_rate, 0  # without a time stamp the encoder's lead-in would stay
            container.mux(stream.encode(block))
            container.mux(stream.encode())


def numbered_frames(count, height=64, width=96):
    """Frames whose brightness tells their number: 10, 20, ..."""
    levels = 10 * (np.arange(count, dtype=np.uint8) + 1)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def tone(seconds, frequency=440.0, sample_rate=16_000, peak=12_000):
    """A sine wave, int16."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    return (peak * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def sent_packets(path):
    """(place in the file, bytes, key frame) of each packet of the first stream."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(container.streams[0]) if p.size]


def noise(seconds, decibels):
    """Normal noise whose RMS is `decibels` of full scale, int16."""
    return np.random.default_rng(0).normal(0, 32768 * 10 ** (decibels / 20), int(seconds * 16_000)).astype(np.int16)


def write_stamped(path, frames, stamps, codec="libx264rgb"):
    """Frames [T, H, W, 3] shown at these milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"qp": "0", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "rgb24"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for array, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_covered(path, codec):
    """Half a second of sound with a grey picture attached."""
    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else None) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 127, np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
        block = av.AudioFrame.from_ndarray(tone(0.5)[None], format="s16", layout="mono")
        block.sample_rate, block.pts = 16_000, 0
        container.mux([*stream.encode(block), *stream.encode()])
