"""Which frame is on show when, whatever the time stamps say."""

import gzip
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_jax.data.frames import read_frames
from mer_jax.data.sound import read_sound
from mer_jax.data.timing import at_most, choose_frames, frame_times, segment_centres, segment_draws
from tests.data.media_files import numbered_frames, tone, write_copyable, write_stamped

FIELDS = Path(__file__).parent / "fields_two_per_time.ts.gz"  # 48 frames of two packets each, one without time stamp


def test_a_variable_frame_rate_is_read_by_time(tmp_path):
    """The first half of the time shows one frame, the second eleven: half the choices fall on the one."""
    write_stamped(tmp_path / "v.mkv", numbered_frames(12), [0, *range(1000, 2100, 100)])
    # Frames are shown from 0, 1000, 1100, ..., 2000 ms; asked for is what is on show at 273, 818, 1364 and 1909 ms.
    frames = read_frames(tmp_path / "v.mkv", partial(segment_centres, 4))
    np.testing.assert_array_equal(frames, numbered_frames(12)[[0, 0, 4, 10]])


def test_what_an_edit_list_cuts_off_is_not_counted(tmp_path):
    """A cut without encoding anew keeps what the first frame needs, and has it thrown away after decoding."""
    write_copyable(tmp_path / "whole.mp4", 24)
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.size:
                shift = round(5 / 8 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    assert len(frame_times(tmp_path / "cut.mp4")[0]) == 19
    np.testing.assert_array_equal(read_frames(tmp_path / "cut.mp4"), numbered_frames(24)[5:])


def test_segment_centres_by_hand():
    assert segment_centres(4, 12).tolist() == [1, 4, 7, 10]
    assert segment_centres(3, 10).tolist() == [1, 5, 8]  # of 0-3.3-6.7-10
    assert segment_centres(2, 4).tolist() == [1, 3]
    assert segment_centres(8, 5).tolist() == segment_centres(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert segment_centres(8, 0).tolist() == []


def test_segment_draws_take_any_frame_of_a_segment():
    draws = [segment_draws(2, 7, np.random.default_rng(seed)) for seed in range(100)]
    assert [sorted(set(frames)) for frames in zip(*draws, strict=True)] == [[0, 1, 2], [3, 4, 5, 6]]


def test_at_most_by_hand():
    assert at_most(12, 12).tolist() == list(range(12))
    assert at_most(11, 12).tolist() == at_most(6, 12).tolist() == [0, 2, 4, 6, 8, 10]
    assert at_most(5, 12).tolist() == [0, 3, 6, 9]
    assert at_most(1, 12).tolist() == [0]
    assert at_most(3, 0).tolist() == []


def test_frames_are_chosen_by_the_time_that_they_are_shown_at():
    def chosen(*times):
        return choose_frames(np.array(times), np.arange).tolist()

    assert chosen(0, 10, 20, 30) == [0, 1, 2, 3]
    assert chosen(100, 111, 119, 130) == [0, 1, 2, 3]  # rounded time stamps
    assert chosen(0, 20, 25, 30) == [0, 0, 2, 3]  # on show at 5, 15, 25, 35
    assert chosen(0, 90) == [0, 1] and chosen(5, 5, 5) == [0, 1, 2]  # no rate to go by


@given(st.integers(1, 32), st.integers(1, 500), st.integers(0, 9))
def test_frames_of_segments(num_frames, total, seed):
    centres = segment_centres(num_frames, total)
    draws = segment_draws(num_frames, total, np.random.default_rng(seed))
    assert len(centres) == len(draws) == min(num_frames, total)
    for chosen in (centres, draws):
        assert (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < total
    if total > num_frames:
        edges = np.arange(num_frames + 1) * total // num_frames
        assert (draws >= edges[:-1]).all() and (draws < edges[1:]).all()


def levels(path, choose=None):
    """The brightness of each frame that is read."""
    return read_frames(path, choose).mean(axis=(1, 2, 3)).round().astype(int).tolist()


@pytest.mark.parametrize("suffix", [".ts", ".h264", ".mkv", ".avi", ".mp4"])
def test_frames_of_two_fields_are_counted_once(tmp_path, suffix):
    """FFmpeg cuts them into packets that have no time stamp, that of the frame, or one of their own."""
    source = tmp_path / "fields.ts"
    source.write_bytes(gzip.decompress(FIELDS.read_bytes()))
    path = tmp_path / f"v{suffix}"
    if suffix != ".ts":
        with av.open(str(source)) as given_file, av.open(str(path), "w") as container:
            stream = container.add_stream_from_template(given_file.streams.video[0])
            for number, packet in enumerate(p for p in given_file.demux(video=0) if p.size):
                packet.pts = packet.dts = 90_000 + 1800 * (number if suffix in (".avi", ".mp4") else number // 2 * 2)
                packet.stream = stream
                container.mux(packet)
    else:
        path = source
    frames = read_frames(path)
    assert len(frames) == len(frame_times(path).times) == 48 and len({frame.tobytes() for frame in frames}) == 48
    centres = read_frames(path, partial(segment_centres, 8))
    np.testing.assert_array_equal(centres, frames[3::6])


def test_a_frame_is_shown_for_a_second_at_most(tmp_path):
    late = [0, 100, 200, 300, 400, 3_600_000]
    write_stamped(tmp_path / "v.mkv", numbered_frames(6), late)
    assert levels(tmp_path / "v.mkv") == [10, 20, 30, 40, 50, 60]
    assert frame_times(tmp_path / "v.mkv").times.tolist() == [0, 100, 200, 300, 400, 1400]
    # On show at 140, 420, 700, 980, 1260 and 1540 ms.
    assert levels(tmp_path / "v.mkv", np.arange) == [20, 50, 50, 50, 50, 60]
    slow = [0, 5000, 10_000, 15_000]
    write_stamped(tmp_path / "slow.mkv", numbered_frames(4), slow)
    assert levels(tmp_path / "slow.mkv", np.arange) == [10, 20, 30, 40]


def test_times_may_be_negative_or_begin_late(tmp_path):
    for start in (-250, 5000):
        write_stamped(tmp_path / "v.mkv", numbered_frames(4), range(start, start + 400, 100))
        assert levels(tmp_path / "v.mkv", np.arange) == [10, 20, 30, 40]


@pytest.mark.parametrize("shift", [0, 300, -40_000])
def test_where_time_goes_back_a_new_part_starts(tmp_path, shift):
    """Three parts behind each other, the times of which are alike, overlap in part, or lie before each other."""
    wholes, waveforms = [], []
    for part in range(3):
        path = tmp_path / f"{part}.ts"
        with av.open(str(path), "w") as container:
            video = container.add_stream("libx264", rate=10, options={"crf": "1", "bf": "2"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            sound = container.add_stream("aac", rate=16_000, layout="mono")
            for number in range(8):
                frame = av.VideoFrame.from_ndarray(numbered_frames(24)[8 * part + number], format="rgb24")
                frame.pts = number + part * shift // 100 + 1000
                container.mux(video.encode(frame))
            container.mux(video.encode())
            block = av.AudioFrame.from_ndarray(tone(0.8, 440.0 * (part + 1))[None], format="s16", layout="mono")
            block.sample_rate, block.pts = 16_000, 16 * part * shift + 1_600_000
            container.mux(sound.encode(block))
            container.mux(sound.encode())
        wholes.append(path.read_bytes())
        waveforms.append(read_sound(path, 16_000))
    (tmp_path / "joined.ts").write_bytes(b"".join(wholes))
    np.testing.assert_allclose(levels(tmp_path / "joined.ts"), 10 * np.arange(1, 25), rtol=0, atol=1)
    np.testing.assert_allclose(levels(tmp_path / "joined.ts", np.arange), 10 * np.arange(1, 25), rtol=0, atol=1)
    waveform = read_sound(tmp_path / "joined.ts", 16_000)
    assert abs(waveform.size - sum(map(len, waveforms))) <= 3 * 1024  # a packet at each seam
    pitches = [np.abs(np.fft.rfft(part[2_000:10_000])).argmax() * 2 for part in np.array_split(waveform, 3)]
    assert pitches == [440, 880, 1320]


def test_parts_are_told_where_the_file_has_no_decoding_times(tmp_path):
    """FFmpeg makes up Matroska's, and those of the second part fall between frames that need later ones."""
    write_copyable(tmp_path / "v.mkv", 12)
    (tmp_path / "joined.mkv").write_bytes(2 * (tmp_path / "v.mkv").read_bytes())
    assert levels(tmp_path / "joined.mkv", np.arange) == 2 * list(range(10, 130, 10))


def test_pictures_that_only_serve_others_are_not_counted(tmp_path):
    """VP8's alternate reference frames are packets that show nothing: here every third frame is made one."""
    with av.open(str(tmp_path / "v.ivf"), "w") as container:
        stream = container.add_stream("libvpx", rate=10, options={"auto-alt-ref": "0", "lag-in-frames": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(array, format="rgb24") for array in numbered_frames(12)]
        for number, packet in enumerate([p for frame in [*frames, None] for p in stream.encode(frame)]):
            if number % 3 == 2:
                memoryview(packet)[0] &= 0xEF  # show_frame
            container.mux(packet)
    assert len(frame_times(tmp_path / "v.ivf").times) == 8
    np.testing.assert_allclose(levels(tmp_path / "v.ivf"), [10, 20, 40, 50, 70, 80, 100, 110], rtol=0, atol=3)
