"""Writes small media files for the tests of decoding."""

import av
import numpy as np


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
