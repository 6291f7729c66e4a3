"""Sound: which samples, of which track and channels, and what is silence."""

import wave

import av
import numpy as np
import pytest

from mer_jax.data.media import probe
from mer_jax.data.sound import are_silent, is_silent, read_sound, resampled
from mer_jax.data.streams import Unreadable
from tests.data.media_files import noise, sent_packets, tone, write_sound, write_video


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
        assert are_silent(iter(blocks), 16_000) is silent


def test_channels_without_known_places_are_averaged(tmp_path):
    channels = np.zeros((9, 16_000), np.int16)
    channels[3] = tone(1.0)
    with wave.open(str(tmp_path / "nine.wav"), "wb") as file:
        file.setnchannels(9)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(channels.T.tobytes())
    np.testing.assert_allclose(read_sound(tmp_path / "nine.wav", 16_000), tone(1.0) / 9, atol=2)


def write_stereo(path, left, right, codec="flac"):
    write_sound(path, [np.stack([left, right], axis=1).reshape(1, -1)], codec, "stereo")


@pytest.mark.parametrize("codec", ["flac", "aac"])
@pytest.mark.parametrize("share", [1.0, 0.9])
def test_channels_that_cancel_each_other_are_heard(tmp_path, codec, share):
    """One channel is the other upside down: FFmpeg's mix of them is silence, or what little is not alike."""
    write_stereo(tmp_path / "s.mka", tone(1.0), (-share * tone(1.0)).astype(np.int16), codec)
    inside = slice(1_000, 15_000)
    waveform = read_sound(tmp_path / "s.mka", 16_000)[:16_000]
    np.testing.assert_allclose(waveform[inside], tone(1.0)[inside], rtol=0, atol=1 if codec == "flac" else 200)


def test_channels_that_do_not_cancel_are_mixed(tmp_path):
    """Though one is upside down and hardly softer, or their offsets are opposite."""
    left = tone(1.0)
    for right in ((-0.7 * left).astype(np.int16), np.zeros_like(left)):
        write_stereo(tmp_path / "s.flac", left, right)
        mixed = (left.astype(int) + right) / 2
        np.testing.assert_allclose(read_sound(tmp_path / "s.flac", 16_000), mixed, rtol=0, atol=1)
    write_stereo(tmp_path / "s.flac", left + 9_000, left - 9_000)
    np.testing.assert_allclose(read_sound(tmp_path / "s.flac", 16_000), left, rtol=0, atol=1)


def write_tracks(path, *languages, frames=()):
    """Tracks of 440, 880, 1320, ... Hz, beside frames [T, H, W, 3] where there are some."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8) if len(frames) else None
        if video:
            video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        streams = [container.add_stream("flac", rate=16_000, layout="mono") for _ in languages]
        for stream, language in zip(streams, languages, strict=True):
            if language:
                stream.metadata["language"] = language
        for number, stream in enumerate(streams):
            block = av.AudioFrame.from_ndarray(tone(0.5, 440.0 * (number + 1))[None], format="s16", layout="mono")
            block.sample_rate, block.pts = 16_000, 0
            container.mux(stream.encode(block))
            container.mux(stream.encode())
        for frame in [*(av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames), *[None] * bool(video)]:
            container.mux(video.encode(frame))


@pytest.mark.parametrize(("track", "number"), [("", 0), ("0", 0), ("2", 2), ("fra", 1)])
def test_a_setting_picks_the_track(tmp_path, track, number):
    write_tracks(tmp_path / "three.mkv", "eng", "fra", "")
    np.testing.assert_array_equal(read_sound(tmp_path / "three.mkv", 16_000, track), tone(0.5, 440.0 * (number + 1)))


def test_a_track_that_is_not_there_is_absent(tmp_path):
    write_tracks(tmp_path / "two.mkv", "eng", "")
    with pytest.raises(Unreadable, match=r"^no sound track 'deu' \(there: track 0, eng; track 1\)$"):
        read_sound(tmp_path / "two.mkv", 16_000, "deu")
    write_video(tmp_path / "mute.mp4", np.zeros((2, 64, 64, 3), np.uint8))
    with pytest.raises(Unreadable, match=r"^no sound track$"):
        read_sound(tmp_path / "mute.mp4", 16_000, "deu")


@pytest.mark.parametrize("channel", range(6))
@pytest.mark.parametrize(("suffix", "layout"), [("wav", "6 channels"), ("flac", "5.1")])
def test_speech_of_any_channel_is_heard(tmp_path, suffix, layout, channel):
    """Microphone arrays and recorders fill one of many (matrix-creator 24); FFmpeg's mix leaves the fourth out."""
    samples = np.zeros((16_000, 6), np.int16)
    samples[:, channel] = tone(1.0)
    path = tmp_path / f"s.{suffix}"
    if suffix == "wav":  # which says no places
        with wave.open(str(path), "wb") as file:
            file.setparams((6, 2, 16_000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
    else:
        write_sound(path, [samples.reshape(1, -1)], "flac", layout)
    assert not probe(path).silent
    assert read_sound(path, 16_000).std() > (tone(1.0).std() if channel == 3 else 1000) - 1
    assert ("channel 3 alone" in str(probe(path).notes)) == (channel == 3)
