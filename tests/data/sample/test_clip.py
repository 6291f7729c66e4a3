"""One clip of the sample: what its frames show and what its file holds."""

from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.media import Unreadable, is_silent, read_frames, read_sound
from mer_jax.data.sample.clip import draw_expressions, draw_poses, encode, write_clip
from mer_jax.data.sample.plan import Cue, Defect, SampleSpec, draw_cast, draw_plans

SPEC = SampleSpec(12, 12, 0)
PERSON = draw_cast(SPEC)[0]


@pytest.fixture
def plan():
    return replace(draw_plans(SPEC)[0], split="train", media="clip", num_frames=9, defect=Defect.NONE)


def paths(root):
    return root / "video-labeled/clip.mp4", root / "openface_face/clip/clip.npy"


def test_a_sound_clip_has_frames_sound_and_a_crop_per_frame(tmp_path, plan):
    write_clip(tmp_path, plan, PERSON)
    media, crops_file = paths(tmp_path)
    frames, crops = read_frames(media), np.load(crops_file)
    assert frames.shape == (9, 128, 160, 3)
    assert crops.shape == (9, 112, 112, 3) and crops.dtype == np.uint8
    sound = read_sound(media, 16_000)
    assert not is_silent(sound, 16_000)
    assert len(sound) == pytest.approx(9 / 8 * 16_000, abs=2048)  # AAC: a block before, a part of one after
    blue, _, red = crops.mean(axis=(0, 1, 2))
    assert red > blue  # skin, so the crops are BGR


@pytest.mark.parametrize(
    ("defect", "symptom"),
    [
        (Defect.NO_SOUND_TRACK, "no sound track"),
        (Defect.NO_VIDEO_STREAM, "no video stream"),
        (Defect.TRUNCATED, "cannot decode"),
    ],
)
def test_a_broken_file_is_broken_as_planned(tmp_path, plan, defect, symptom):
    write_clip(tmp_path, replace(plan, defect=defect), PERSON)
    media, _ = paths(tmp_path)
    with pytest.raises(Unreadable, match=symptom):
        read_frames(media)
        read_sound(media, 16_000)


def test_a_silent_clip_has_a_track_of_silence(tmp_path, plan):
    write_clip(tmp_path, replace(plan, defect=Defect.SILENT), PERSON)
    sound = read_sound(paths(tmp_path)[0], 16_000)
    assert len(sound) > 16_000 and is_silent(sound, 16_000)


def test_without_a_face_there_are_frames_but_no_crops(tmp_path, plan):
    write_clip(tmp_path, replace(plan, defect=Defect.NO_FACE), PERSON)
    media, crops_file = paths(tmp_path)
    assert len(read_frames(media)) == 9
    assert np.load(crops_file).shape == (0, 112, 112, 3)
    write_clip(tmp_path, replace(plan, media="other", defect=Defect.NO_FACE | Defect.NO_CROPS), PERSON)
    assert not (tmp_path / "openface_face/other").exists()


def test_the_expression_rises_to_its_intensity_and_the_mouth_opens_with_the_voice(plan):
    seconds = np.linspace(0.05, 1.5, 12)
    plan = replace(plan, face=Cue("happy", 0.8))

    def speak(loudness):
        return draw_expressions(plan, seconds, np.full(12, loudness), np.random.default_rng(0))

    smiles = np.array([expression.smile for expression in speak(0.0)])
    assert (np.diff(smiles) >= 0).all()
    assert smiles[-1] - smiles[0] > 0.1
    assert smiles[-1] == pytest.approx(0.8, abs=0.3)  # a resting face of its own is added
    assert all(loud.mouth_open > quiet.mouth_open for loud, quiet in zip(speak(1.0), speak(0.0), strict=True))


def test_the_head_moves_smoothly_and_stays_in_the_frame():
    for seed in range(20):
        poses = draw_poses(np.arange(24) / 8, np.zeros(24), np.random.default_rng(seed))
        x = np.array([pose.x for pose in poses])
        assert 0 < np.abs(np.diff(x)).max() < 3
        assert np.abs(x).max() < 30


def test_the_same_clip_is_the_same_bytes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (8, 128, 160, 3), np.uint8)
    sound = np.sin(np.arange(16_000) / 20).astype(np.float32)
    for name in ("a.mp4", "b.mp4"):
        encode(tmp_path / name, frames, sound)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
