"""A clip at a glance."""

import io

import numpy as np
import pytest
from PIL import Image

from mer_jax.data.clips import Clip
from mer_jax.data.corruptions import Corruption
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.glimpses import BINS, FACES, FRAMES, HEIGHT, Glimpse, glimpses, jpeg, outline, pictures
from tests.data.media_files import numbered_frames, tone, write_video


def test_an_outline_is_the_square_root_of_the_largest_sample():
    """The levels are 0 to 35; a quarter of full scale is half of them, 17.5, and rounded to even 18 ("i")."""
    waveform = np.zeros(4 * BINS, np.int16)
    waveform[2 * BINS + 1 :: 4] = -8192
    waveform[-1] = -32768
    assert outline(waveform) == "0" * (BINS // 2) + "i" * (BINS // 2 - 1) + "z"
    assert len(outline(np.ones(5, np.int16))) == BINS and outline(np.zeros(0, np.int16)) == ""


def test_a_strip_shows_pictures_side_by_side():
    frames = numbered_frames(3, height=40, width=80)
    content, width = jpeg(frames)
    strip = np.asarray(Image.open(io.BytesIO(content)), float)
    assert strip.shape == (HEIGHT, width, 3) and width == 3 * 2 * HEIGHT
    for i, place in enumerate(np.split(strip, 3, axis=1)):
        assert abs(place.mean() - 10 * (i + 1)) < 1
    assert jpeg(frames[:, :, :1])[1] == 3 * 2 and jpeg(numbered_frames(1, 10, 990))[1] == 2 * HEIGHT
    assert jpeg(frames[:0]) == (None, 0)


def test_faces_are_shown_as_they_are_coloured_and_frames_where_there_are_none(tmp_path):
    crops = numbered_frames(20, 8, 8)
    crops[..., 0] = 200  # blue: crops on disk are BGR
    np.save(tmp_path / "faces.npy", crops)
    write_video(tmp_path / "v.mp4", numbered_frames(12), tone(1.0))
    with_faces = pictures(Clip("a", "train", tmp_path / "v.mp4", tmp_path / "faces.npy"))
    assert with_faces.shape == (FACES, 8, 8, 3) and (with_faces[..., 2] == 200).all()
    assert with_faces[:, 0, 0, 0].tolist() == [30, 70, 110, 150, 190]  # the middle of each fifth
    frames = pictures(Clip("a", "train", tmp_path / "v.mp4"))
    assert len(frames) == FRAMES and frames[:, 0, 0, 0].tolist() == [30, 70, 110]


def test_a_clip_that_cannot_be_read_costs_itself(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(4), tone(1.0))
    write_video(tmp_path / "mute.mp4", numbered_frames(4))
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    names = ("v", "bad", "mute", "gone")
    clips = [Clip(name, "train", tmp_path / f"{name}.mp4") for name in names]
    dropped = Clip("d", "test", tmp_path / "v.mp4", corruption=Corruption(0, None, 0.0, 1.0, ("speech", "video")))
    good, bad, mute, gone, lost, row = glimpses([*clips, dropped, Clip("row", "train")], ExtractionSettings(workers=1))
    assert good.strip and good.seconds == pytest.approx(1.0, abs=0.01) and len(good.outline) == BINS
    assert bad == gone == lost == row == Glimpse(None, 0, "", 0.0)
    assert mute.strip and not mute.outline
