"""Frames: the ones that are asked for, upright, and the nearest in place of a damaged one."""

import struct
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image

from mer_jax.data.frames import Block, Turn, chosen, frame_blocks, read_frames, turned
from mer_jax.data.media import probe
from mer_jax.data.streams import Unreadable
from mer_jax.data.timing import at_most, frame_times, segment_centres
from mer_jax.features.readers import VideoReader
from tests.data.media_files import numbered_frames, sent_packets, write_copyable, write_video


def test_chosen_frames_are_the_ones_asked_for(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(12))
    assert len(frame_times(tmp_path / "v.mp4")[0]) == 12
    frames = read_frames(tmp_path / "v.mp4", partial(segment_centres, 4))
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, numbered_frames(12)[[1, 4, 7, 10]])
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), numbered_frames(12))


@pytest.mark.parametrize(
    ("codec", "form", "error"),
    [
        ("libx264", "yuv420p", 2),
        ("libx264", "yuv444p", 1),
        ("mpeg4", "yuv420p", 2),
        ("mjpeg", "yuvj444p", 1),
        ("libx264rgb", "bgr0", 0),
        ("libx264rgb", "rgb24", 0),
        ("ffv1", "bgr0", 0),
        ("png", "rgb24", 0),
    ],
)
def test_frames_are_rgb_whatever_they_were_stored_as(tmp_path, codec, form, error):
    red = np.full((64, 96, 3), (200, 40, 90), np.uint8)
    options = {"libx264": {"crf": "1"}, "libx264rgb": {"qp": "0"}}
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = 96, 64, form
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = read_frames(tmp_path / "v.avi")
    np.testing.assert_allclose(frame.astype(int), red, rtol=0, atol=error)


def write_turned(path, frames, a, b, c, d):
    """Lossless frames whose track has this display matrix: x, y are shown at a x + c y, b x + d y."""
    write_video(path, frames)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44  # version, flags, times, track, layer, volume
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    assert data[place : place + 36] == identity
    data[place : place + 36] = struct.pack(">9i", *(round(65536 * x) for x in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(data)


def autorotated(path):
    """A file's frames by FFmpeg's filters, as its autorotate (fftools/ffmpeg_filter.c) chooses them."""
    with av.open(str(path)) as container:
        stream, pictures = container.streams.video[0], list(container.decode(video=0))
        data = pictures[0].side_data.get("DISPLAYMATRIX")  # None where it would change nothing
        matrix = np.frombuffer(data, np.int32).tolist() if data else [1, 0, 0, 0, 1]
        theta = round(np.degrees(np.arctan2(matrix[1], matrix[0]))) % 360
        filters = {
            0: [("vflip", "")] * (matrix[4] < 0),
            90: [("transpose", "cclock_flip" if matrix[3] > 0 else "clock")],
            180: [("hflip", "")] * (matrix[0] < 0) + [("vflip", "")] * (matrix[4] < 0),
            270: [("transpose", "clock_flip" if matrix[3] < 0 else "cclock")],
        }[theta]
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=stream), *(graph.add(*each) for each in filters), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        upright = []
        for picture in pictures:
            graph.push(picture)
            upright.append(graph.pull().to_ndarray(format="rgb24"))
        return np.stack(upright)


@pytest.mark.parametrize(
    "matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
)
def test_frames_are_shown_as_ffmpegs_autorotate_shows_them(tmp_path, matrix):
    """All eight ways to lay a picture, mirrored or not: the track's display matrix says which."""
    write_turned(tmp_path / "v.mp4", random_frames(2, 64, 96), *matrix)
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), autorotated(tmp_path / "v.mp4"))


@pytest.mark.parametrize(("degrees", "mirror", "nearest"), [(10, 1, (1, 0, 0, 1)), (80, -1, (0, 1, 1, 0))])
def test_other_angles_are_taken_for_the_nearest_right_one(tmp_path, degrees, mirror, nearest):
    """On purpose unlike FFmpeg, which turns by any angle, leaves corners black, and there forgets that it mirrors."""
    cosine, sine, frames = np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), random_frames(2, 64, 96)
    write_turned(tmp_path / "v.mp4", frames, cosine, sine, -mirror * sine, mirror * cosine)
    write_turned(tmp_path / "right.mp4", frames, *nearest)
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), read_frames(tmp_path / "right.mp4"))
    assert probe(tmp_path / "v.mp4").notes == (("video", "turned by no right angle (read at the nearest, 10 off)"),)
    assert probe(tmp_path / "right.mp4").notes == ()


@pytest.mark.parametrize(("ratio", "width"), [("16/9", 85), ("1/2", 24), ("1/255", 48)])
def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(tmp_path, ratio, width):
    """As players show DVDs and camcorders' videos (opencv 4921), before they are turned; FFmpeg leaves it to them.

    Ratios that no camera has are damage.
    """
    frames, path = numbered_frames(3, height=64, width=48), tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=8, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 64, "rgb24"
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    assert read_frames(path).shape == (3, 64, width, 3)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert read_frames(path).shape == (3, width, 64, 3)
    np.testing.assert_array_equal(read_frames(path)[:, 5, 5, 0], frames[:, 5, 5, 0])


def test_what_the_first_frame_says_of_its_display_is_so_for_all(tmp_path):
    """H.264 says it in its own bits, at the first key frame, and players keep to it."""
    frames = random_frames(6, 64, 96)
    write_video(tmp_path / "plain.mp4", frames)
    with av.open(str(tmp_path / "plain.mp4")) as plain, av.open(str(tmp_path / "v.mp4"), "w") as turned:
        stream = turned.add_stream_from_template(plain.streams.video[0])
        said = BitStreamFilterContext(
            "h264_metadata=display_orientation=insert:rotate=90", plain.streams.video[0], stream
        )
        for packet in plain.demux(video=0):
            for filtered in said.filter(packet if packet.dts is not None else None):
                filtered.stream = stream
                turned.mux(filtered)
    with av.open(str(tmp_path / "v.mp4")) as container:
        has_matrix = [frame.side_data.get("DISPLAYMATRIX") is not None for frame in container.decode(video=0)]
    assert has_matrix == [True] + [False] * 5
    expected = np.rot90(read_frames(tmp_path / "plain.mp4"), axes=(1, 2))
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), expected)
    (last,) = read_frames(tmp_path / "v.mp4", lambda count: np.array([count - 1]))
    np.testing.assert_array_equal(last, expected[-1])


def test_a_frame_keeps_its_turn_when_others_are_gone():
    """PyAV 18 finds an object by its identity, and forgets it with the first frame that has it."""
    frames = [av.VideoFrame(8, 8, "rgb24") for _ in range(2)]
    for _ in turned([(None, frames)]):
        pass
    del frames[0]
    assert frames[0].opaque == Turn()


@pytest.mark.parametrize(("size", "shrunk"), [((2160, 4096), (1012, 1920)), ((2400, 64), (1920, 51))])
def test_large_frames_are_shrunk(tmp_path, size, shrunk):
    frames = np.zeros((2, *size, 3), np.uint8)
    frames[:, : size[0] // 2] = 200
    write_video(tmp_path / "v.mp4", frames)
    (block,) = frame_blocks(tmp_path / "v.mp4")
    assert (block.height, block.width) == shrunk and block.frames.shape == (2, *shrunk, 3)
    assert (block.frames[:, : shrunk[0] // 2 - 1] == 200).all() and not block.frames[:, shrunk[0] // 2 + 1 :].any()
    assert VideoReader(224, 8).chunks(read_frames(tmp_path / "v.mp4"))


def random_frames(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def zero(path, numbers):
    """Overwrites packets of the first stream with zeros."""
    data = bytearray(path.read_bytes())
    for number in numbers:
        place, size, _ = sent_packets(path)[number]
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])  # with time stamps and without
def test_a_damaged_packet_costs_its_own_frame_only(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    write_copyable(path, 24)
    zero(path, [5, 6, 23])  # frames 4, 5 and 22
    assert len(frame_times(path)[0]) == 24
    nearest = [0, 1, 2, 3, 3, 6, *range(6, 22), 21, 23]
    np.testing.assert_array_equal(read_frames(path), numbered_frames(24)[nearest])
    late = read_frames(path, lambda total: np.array([18, 18, 20]))
    np.testing.assert_array_equal(late, numbered_frames(24)[[18, 18, 20]])
    assert probe(path).video == "96x64 h264"


def test_a_clip_whose_end_is_damaged_ends_with_its_last_frame(tmp_path):
    path = tmp_path / "v.mp4"
    write_copyable(path, 24)
    zero(path, [22, 23])  # frames 23 and 22
    np.testing.assert_array_equal(read_frames(path)[20:], numbered_frames(24)[[20, 21, 21, 21]])


def test_a_clip_with_damaged_packets_only_is_unreadable(tmp_path):
    path = tmp_path / "v.mp4"
    write_copyable(path, 6)
    zero(path, range(6))
    with pytest.raises(Unreadable, match="cannot decode"):
        read_frames(path)


def test_a_damaged_time_stamp_costs_no_frame(tmp_path):
    """One frame claims to be shown an hour late, beyond what was sent."""
    frames = [av.VideoFrame.from_ndarray(array, format="rgb24") for array in numbered_frames(12)]
    stamps = np.sort([*range(5), *range(6, 12), 3600])
    for number, frame in enumerate(frames):
        frame.pts = 3600 if number == 5 else number
    packet = SimpleNamespace(is_discard=False, stream=SimpleNamespace(codec_context=SimpleNamespace(name="h264")))
    shown = list(chosen(((packet, [frame]) for frame in frames), np.arange(11), stamps))
    assert [frame.pts for frame in shown] == [0, 1, 2, 3, 4, 3600, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("size", [(48, 50), (99, 33)])
def test_odd_sizes(tmp_path, size):
    frames = random_frames(3, *size)
    write_video(tmp_path / "v.mp4", frames)
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), frames)


def test_blocks_are_bounded_and_whole(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(12))
    blocks = list(frame_blocks(tmp_path / "v.mp4", partial(at_most, 6), size=4))
    assert [len(block.frames) for block in blocks] == [4, 2]
    np.testing.assert_array_equal(np.concatenate([block.frames for block in blocks]), numbered_frames(12)[::2])


def test_blocks_in_memory_are_resized_alike():
    frames = random_frames(2, 30, 50)
    block = Block.of(frames)
    np.testing.assert_array_equal(block.frames, frames)
    small = np.stack([Image.fromarray(frame).resize((35, 21), Image.Resampling.BILINEAR) for frame in frames])
    np.testing.assert_allclose(block.resized(35, 21).astype(int), small, rtol=0, atol=7)


def test_of_a_cover_and_a_video_the_video_is_read(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        video = container.add_stream("libx264rgb", rate=8, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "rgb24"
        for stream, frames in ((cover, numbered_frames(1, 32, 32)), (video, numbered_frames(3))):
            for frame in [*(av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames), None]:
                container.mux(stream.encode(frame))
    np.testing.assert_array_equal(read_frames(path), numbered_frames(3))
    assert not probe(path).notes  # the cover is no second video stream


def test_streams_of_another_size_are_brought_to_the_first(tmp_path):
    """Parts of a stream may differ in size: FFmpeg scales to the first too."""
    for name, size in (("a.ts", (64, 96)), ("b.ts", (128, 192))):
        write_video(tmp_path / name, numbered_frames(4, *size), lossy=True)
    (tmp_path / "v.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames = read_frames(tmp_path / "v.ts")
    assert frames.shape == (8, 64, 96, 3)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), [10, 20, 30, 40] * 2, rtol=0, atol=3)
