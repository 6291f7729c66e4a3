"""Decoding: which frames, which samples, and reasons instead of crashes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_jax.data.media import (
    Unreadable,
    count_frames,
    is_silent,
    read_frames,
    read_sound,
    segment_centres,
    segment_draws,
)
from tests.data.media_files import numbered_frames, tone, write_video


def test_chosen_frames_are_the_ones_asked_for(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(12))
    assert count_frames(tmp_path / "v.mp4") == 12
    frames = read_frames(tmp_path / "v.mp4", partial(segment_centres, 4))
    assert frames.shape == (4, 64, 96, 3) and frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [20, 50, 80, 110], atol=2)
    assert len(read_frames(tmp_path / "v.mp4")) == 12


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_sound_is_resampled_to_mono(tmp_path, sample_rate):
    write_video(tmp_path / "v.mp4", None, tone(1.0, sample_rate=sample_rate), sample_rate=sample_rate)
    waveform = read_sound(tmp_path / "v.mp4", 16_000)
    assert waveform.dtype == np.int16 and abs(waveform.size - 16_000) < 3_000
    spectrum = np.abs(np.fft.rfft(waveform[2_000:14_000]))
    assert abs(spectrum.argmax() * 16_000 / 12_000 - 440) < 2


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


def test_silence():
    assert is_silent(np.zeros(100, np.int16)) and is_silent(np.zeros(0, np.int16))
    assert not is_silent(np.array([0, -32768], np.int16))


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
