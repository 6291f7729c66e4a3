"""Decoding: which frames, which samples, and reasons instead of crashes."""

import struct
import wave
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mer_jax.data import media
from mer_jax.data.media import (
    Unreadable,
    at_most,
    choose_frames,
    frame_blocks,
    frame_times,
    is_silent,
    read_frames,
    read_sound,
    resampled,
    segment_centres,
    segment_draws,
)
from mer_jax.features.readers import VideoReader
from tests.data.media_files import numbered_frames, tone, write_copyable, write_sound, write_video


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


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_sound_is_resampled_to_mono(tmp_path, sample_rate):
    write_video(tmp_path / "v.mp4", None, tone(1.0, sample_rate=sample_rate), sample_rate=sample_rate)
    waveform = read_sound(tmp_path / "v.mp4", 16_000)
    assert waveform.dtype == np.int16 and waveform.size == 16_000
    if sample_rate == 16_000:
        np.testing.assert_array_equal(waveform, tone(1.0))
    inside = slice(800, -800)  # a filter's length from its ends
    np.testing.assert_allclose(waveform[inside], tone(1.0)[inside], rtol=0, atol=1)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_resampling_is_as_good_as_soxr(rate):
    """Flat up to 7 kHz, and what does not fit into 8 kHz is gone (soxr: -80 dB)."""
    time = np.arange(rate) / rate

    def level(frequency):
        sine = (10_000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(sine[None], format="s16", layout="mono")
        frame.sample_rate = rate
        waveform = np.concatenate(list(resampled(iter([frame]), 16_000)))
        assert waveform.size == 16_000
        return 20 * np.log10(max(waveform[2_000:14_000].std(), 1e-3) * np.sqrt(2) / 10_000)

    for frequency in (440, 3_000, 7_000):
        if frequency < rate / 2:
            assert abs(level(frequency)) < 0.1
    for frequency in (9_000, 12_000, 20_000):
        if frequency < rate / 2:
            assert level(frequency) < -80


def test_sound_keeps_its_place_and_its_channels_are_mixed(tmp_path):
    burst = np.zeros(16_000, np.int16)
    burst[8_000:9_000] = tone(1.0, 1_000)[:1_000]
    for suffix, codec in ((".mp4", "aac"), (".mkv", "aac"), (".flac", "flac"), (".wav", "pcm_s16le")):
        write_sound(tmp_path / f"s{suffix}", [burst[None]], codec, "mono")
        loud = np.flatnonzero(np.abs(read_sound(tmp_path / f"s{suffix}", 16_000)) > 2_000)
        assert abs(loud[0] - 8_001) <= 1, suffix  # no encoder's lead-in
    channels = np.zeros((6, 16_000), np.int16)
    channels[2] = tone(1.0)  # the centre of 5.1
    write_sound(tmp_path / "surround.flac", [channels.T.reshape(1, -1)], "flac", "5.1")
    share = 1 / (1 + 2 * np.sqrt(0.5) + 2 * 0.5)  # beside the left and the right at -3 dB, and those behind at -6 dB
    np.testing.assert_allclose(read_sound(tmp_path / "surround.flac", 16_000), share * tone(1.0), rtol=0, atol=1)


def test_one_of_several_tracks_is_read(tmp_path):
    write_sound(tmp_path / "two.mkv", [tone(0.5)[None], tone(0.5, 880.0)[None]], "flac", "mono")
    spectrum = np.abs(np.fft.rfft(read_sound(tmp_path / "two.mkv", 16_000)))
    assert spectrum.argmax() == 220  # of 2 Hz: the first


def test_a_variable_frame_rate_is_read_by_time(tmp_path):
    """The first half of the time shows one frame, the second eleven: half the choices fall on the one."""
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "rgb24"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, array in enumerate(numbered_frames(12)):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = (0 if i == 0 else 1000 + 100 * (i - 1)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # Frames are shown from 0, 1000, 1100, ..., 2000 ms; asked for is what is on show at 273, 818, 1364 and 1909 ms.
    frames = read_frames(tmp_path / "v.mkv", partial(segment_centres, 4))
    np.testing.assert_array_equal(frames, numbered_frames(12)[[0, 0, 4, 10]])


@pytest.mark.parametrize(("cosine", "sine", "turns"), [(1, 0, 0), (0, 1, -1), (0, -1, 1), (-1, 0, 2)])
def test_frames_are_turned_upright(tmp_path, cosine, sine, turns):
    """The track's display matrix turns them, clockwise where sine is 1."""
    frames = random_frames(2, 64, 96)
    write_video(tmp_path / "v.mp4", frames)
    data = bytearray((tmp_path / "v.mp4").read_bytes())
    place = data.index(b"tkhd") + 44  # version, flags, times, track, layer, volume
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    assert data[place : place + 36] == identity
    turned = (cosine, sine, 0, -sine, cosine, 0, 0, 0)
    data[place : place + 36] = struct.pack(">9i", *(65536 * value for value in turned), 1 << 30)
    (tmp_path / "v.mp4").write_bytes(data)
    np.testing.assert_array_equal(read_frames(tmp_path / "v.mp4"), np.rot90(frames, turns, axes=(1, 2)))


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


def sent_packets(path):
    """(place in the file, bytes, key frame) of each packet of the first stream."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(container.streams[0]) if p.size]


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
    assert media.probe(path).video == "96x64 h264"


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


@pytest.mark.parametrize(("suffix", "codec", "length"), [(".mp4", "flac", 1152), (".m4a", "aac", 1024)])
def test_damaged_packets_of_a_sound_track_are_left_out(tmp_path, suffix, codec, length):
    """length: samples of a packet."""
    path = tmp_path / f"s{suffix}"
    write_sound(path, [tone(2.0)[None]], codec, "mono")
    whole = read_sound(path, 16_000)
    data = bytearray(path.read_bytes())
    for place, size, _ in sent_packets(path)[2:4]:
        data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    rest = read_sound(path, 16_000)
    assert rest.size == whole.size - 2 * length
    if codec == "flac":
        np.testing.assert_array_equal(rest, np.delete(whole, slice(2 * length, 4 * length)))


def test_damaged_time_stamps_do_not_end_a_clip(tmp_path):
    """One frame claims to be shown an hour late."""
    frames = [av.VideoFrame.from_ndarray(array, format="rgb24") for array in numbered_frames(12)]
    times = np.sort([*range(5), *range(6, 12), 3600])
    for number, frame in enumerate(frames):
        frame.pts = 3600 if number == 5 else number
    pairs = ((SimpleNamespace(is_discard=False), [frame]) for frame in frames)
    found = list(media.chosen(pairs, np.arange(11), times))
    assert [frame.pts for frame in found] == [0, 1, 2, 3, 4, 3600, 7, 8, 9, 10, 11]


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
    block = media.Block.of(frames)
    np.testing.assert_array_equal(block.frames, frames)
    small = np.stack([Image.fromarray(frame).resize((35, 21), Image.Resampling.BILINEAR) for frame in frames])
    np.testing.assert_allclose(block.resized(35, 21).astype(int), small, rtol=0, atol=7)


def test_a_stream_of_an_unknown_codec_is_none(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(3), tone(0.5))
    (tmp_path / "x.mp4").write_bytes((tmp_path / "v.mp4").read_bytes().replace(b"avc1", b"xyzw"))
    assert media.probe(tmp_path / "x.mp4").video is None
    np.testing.assert_array_equal(read_sound(tmp_path / "x.mp4", 16_000), tone(0.5))
    with pytest.raises(Unreadable, match="no video stream"):
        read_frames(tmp_path / "x.mp4")


def test_missing_streams_and_broken_files_give_reasons(tmp_path):
    write_video(tmp_path / "silent.mp4", numbered_frames(3))
    write_video(tmp_path / "sound.mp4", None, tone(0.5))
    (tmp_path / "text.mp4").write_text("no video at all")
    whole = (tmp_path / "silent.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="no sound track"):
        read_sound(tmp_path / "silent.mp4", 16_000)
    with pytest.raises(Unreadable, match="no video stream"):
        read_frames(tmp_path / "sound.mp4")
    for name in ("text.mp4", "cut.mp4", "missing.mp4"):
        with pytest.raises(Unreadable, match="cannot decode"):
            read_frames(tmp_path / name)


def noise(seconds, decibels):
    """Normal noise whose RMS is `decibels` of full scale, int16."""
    return np.random.default_rng(0).normal(0, 32768 * 10 ** (decibels / 20), int(seconds * 16_000)).astype(np.int16)


def burst(windows):
    """Noise in as many windows of 25 ms, in a second of silence."""
    waveform = np.zeros(16_000, np.int16)
    waveform[4_000 : 4_000 + windows * 400] = noise(1, -40)[: windows * 400]
    return waveform


CLICK = np.zeros(48_000, np.int16)
CLICK[20_000:20_003] = 30_000


@pytest.mark.parametrize(
    ("waveform", "silent"),
    [
        (np.zeros(0, np.int16), True),
        (np.zeros(100, np.int16), True),
        (CLICK, True),
        (np.full(48_000, 500, np.int16), True),
        (noise(3, -61), True),  # RMS 29.2 under the 32.8 of -60 dB
        (noise(3, -59), False),  # RMS 36.7, though the mean of its absolute values is 29.3
        (burst(3), True),
        (burst(4), False),
        (np.concatenate([np.zeros(40_000, np.int16), noise(0.2, -40)]), False),
        (tone(0.05), False),
        (np.array([0, -32768], np.int16), False),
    ],
)
def test_silence_is_judged_by_windows(waveform, silent):
    assert is_silent(waveform, 16_000) is silent
    for size in (30, 1024):  # samples
        blocks = [waveform[start : start + size] for start in range(0, waveform.size, size)]
        assert media.are_silent(iter(blocks), 16_000) is silent


def test_the_probe_hears_no_click(tmp_path):
    for name, waveform in (("click", CLICK), ("quiet", noise(3, -50))):
        write_sound(tmp_path / f"{name}.flac", [waveform[None]], "flac", "mono")
    assert media.probe(tmp_path / "click.flac").silent and not media.probe(tmp_path / "quiet.flac").silent


def test_channels_without_known_places_are_averaged(tmp_path):
    channels = np.zeros((9, 16_000), np.int16)
    channels[3] = tone(1.0)
    with wave.open(str(tmp_path / "nine.wav"), "wb") as file:
        file.setnchannels(9)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(channels.T.tobytes())
    np.testing.assert_allclose(read_sound(tmp_path / "nine.wav", 16_000), tone(1.0) / 9, atol=2)


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
