"""Corruptions: as strong as asked for, the same every time, and on the clips they are meant for."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mer_jax.data.clips import Absent, Clip, Dataset
from mer_jax.data.corruptions import (
    Corruption,
    CorruptionSettings,
    TrainingCorruptionSettings,
    corrupt,
    corrupted_copies,
)
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import read_settings
from tests.data.media_files import tone

NOTHING = {"snr_db": None, "blur": 0.0, "downsample": 1.0, "dropped": ()}


def corruption(**changes):
    return Corruption(seed=1, **(NOTHING | changes))


@pytest.mark.parametrize("snr", [5.0, 10.0])
def test_noise_has_the_asked_for_ratio(snr):
    clean = tone(2.0)
    noisy = corruption(snr_db=snr).sound(clean)
    noise = noisy.astype(float) - clean
    ratio = 10 * np.log10(np.square(clean.astype(float)).mean() / np.square(noise).mean())
    assert noisy.dtype == np.int16 and ratio == pytest.approx(snr, abs=0.1)
    np.testing.assert_array_equal(noisy, corruption(snr_db=snr).sound(clean))


def test_blur_and_downsampling_take_detail_away_and_keep_the_mean():
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), np.uint8)
    for change in ({"blur": 0.05}, {"downsample": 4.0}):
        worse = corruption(**change).frames(frames, "video")
        assert worse.shape == frames.shape and worse.dtype == np.uint8
        assert worse.std() < 0.5 * frames.std() and abs(worse.mean() - frames.mean()) < 3
    assert corruption().frames(frames, "image") is frames


def test_blur_goes_by_the_shorter_side_and_downsampling_averages():
    frames = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3), np.uint8)
    (blurred,) = corruption(blur=0.05).frames(frames, "video")
    np.testing.assert_array_equal(blurred, Image.fromarray(frames[0]).filter(ImageFilter.GaussianBlur(2.0)))
    (coarse,) = corruption(downsample=4.0).frames(frames, "video")
    means = frames[0].reshape(10, 4, 15, 4, 3).mean((1, 3)).round().astype(np.uint8)
    expected = np.asarray(Image.fromarray(means).resize((60, 40), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(coarse.astype(int), expected, rtol=0, atol=1)


def test_noise_is_as_loud_as_the_clips_power_asks():
    """Power and not the mean of absolute values, which are far apart in a clip of one short cry."""
    cry = np.zeros(16_000, np.int16)
    cry[:1_000] = 10_000
    noise = corruption(snr_db=10.0).sound(cry)[1_000:].astype(float)
    assert noise.std() == pytest.approx(10_000 * np.sqrt(1 / 16 / 10), rel=0.02)


def test_what_is_drawn_is_as_the_settings_say():
    clips = [Clip(str(i), "train") for i in range(400)]
    settings = TrainingCorruptionSettings(1.0, (3.0, 4.0), 0.25, 2.0, drop="speech+text", drop_probability=0.2)
    copies, _ = corrupted_copies(clips, settings, 0)
    drawn = [copy.corruption for copy in copies]
    assert len(drawn) == 400 and {(c.blur, c.downsample) for c in drawn} == {(0.25, 2.0)}
    assert all(3 <= c.snr_db <= 4 for c in drawn)
    for modality in ("speech", "text"):
        assert np.mean([modality in c.dropped for c in drawn]) == pytest.approx(0.2, abs=0.06)  # 3 deviations


def test_dropped_modalities_are_absent():
    with pytest.raises(Absent, match="on purpose"):
        corruption(dropped=("image",)).frames(np.zeros((1, 2, 2, 3), np.uint8), "image")


def test_only_test_clips_are_corrupted_and_always_alike():
    clips = tuple(Clip(f"{split}{i}", split) for split in ("train", "unlabeled", "test") for i in range(200))
    dataset = Dataset("d", ("a", "b"), clips, {})
    assert corrupt(dataset, CorruptionSettings(), 0) == dataset  # by default nothing
    settings = CorruptionSettings(probability=0.5)
    first, second = corrupt(dataset, settings, 0), corrupt(dataset, settings, 0)
    assert first == second != corrupt(dataset, settings, 1)
    hit = [clip for clip in first.clips if clip.corruption]
    assert {clip.split for clip in hit} == {"test"} and 70 < len(hit) < 130
    assert all(5 <= clip.corruption.snr_db <= 10 for clip in hit)


def test_copies_have_draws_of_their_own_and_originals_stay_clean():
    clips = [Clip(f"c{i}", "train") for i in range(100)]
    assert corrupted_copies(clips, TrainingCorruptionSettings(), 0)[0] == []  # by default none
    settings = TrainingCorruptionSettings(probability=0.5, copies=3, drop="speech")
    copies, copy_of = corrupted_copies(clips, settings, 0)
    assert 110 < len(copies) < 190 and len({copy.corruption.seed for copy in copies}) == len(copies)
    assert [copy.name for copy in copies] == [clips[i].name for i in copy_of]
    assert {copy.corruption.dropped for copy in copies} == {(), ("speech",)}
    again, _ = corrupted_copies(clips, settings, 0)
    assert copies == again != corrupted_copies(clips, settings, 1)[0]
    assert not any(clip.corruption for clip in clips)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_db": (10.0, 5.0)}, r"snr_db=\(10.0, 5.0\): expected \(\) or \(lowest, highest\)"),
        ({"snr_db": (5.0,)}, "snr_db"),
        ({"probability": 2.0}, "probability=2.0: at most 1"),
        ({"downsample": 0.5}, "downsample=0.5: at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, message):
    known = {"probability": 1.0, "snr_db": (5.0, 10.0), "blur": 0.1, "downsample": 2.0, "drop": "text"}
    assert read_settings(CorruptionSettings, known) == CorruptionSettings(**known)
    with pytest.raises(UsageError, match=message):
        read_settings(CorruptionSettings, known | change)
