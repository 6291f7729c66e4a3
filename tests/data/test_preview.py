"""The contact sheet: whose crops it shows, what it says of them, and where it puts them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.preview import ACROSS, CAPTION, MARGIN, contact_sheet, preview_rows, previewed_clips


def test_clips_are_spread_evenly_over_those_that_can_be_shown():
    clips = [Clip(str(i), "train", media=Path("m") if i % 2 else None) for i in range(14)]
    assert [clip.name for clip in previewed_clips(clips, 3)] == ["1", "7", "13"]
    assert [clip.name for clip in previewed_clips(clips[:4], 3)] == ["1", "3"]
    assert previewed_clips(clips[:1], 3) == []


def test_rows_in_the_order_of_the_clips(tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.save(tmp_path / "brought.npy", crops)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    clips = [
        Clip("cut", "train", media=Path("cut.mp4")),
        Clip("brought", "train", media=Path("brought.mp4"), faces=tmp_path / "brought.npy"),
        Clip("hopeless", "train", media=Path("hopeless.mp4")),
        Clip("broken", "train", faces=tmp_path / "broken.npy"),
    ]

    def cut(to_cut):
        assert [clip.name for clip in to_cut] == ["cut", "hopeless"]
        return [(crops[:1], 3), Absent("crashed")]

    rows = preview_rows(clips, cut)
    assert [caption for caption, _ in rows] == [
        "cut: 1 crops, 3 frames without the face",
        "brought: 2 crops",
        "hopeless: crashed",
        "broken: broken.npy cannot be read: not a .npy array",
    ]
    assert [len(shown) for _, shown in rows] == [1, 2, 0, 0]
    np.testing.assert_array_equal(rows[0][1], crops[:1])
    np.testing.assert_array_equal(rows[1][1], crops[..., ::-1])  # BGR on disk
    prepared = Clip("prepared", "train", prepared=SimpleNamespace(faces=lambda: crops))
    assert preview_rows([prepared], None)[0][0] == "prepared: 2 crops"
    assert preview_rows(clips[1:2], None)[0][0] == "brought: 2 crops"  # nothing to cut: no detector is asked


def test_crops_stand_in_rows_evenly_spaced(tmp_path):
    colours = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.array([8, 4, 2], np.uint8)
    many = np.broadcast_to(colours, (30, 16, 16, 3))
    contact_sheet(tmp_path / "sheet.png", [("many", many), ("none", many[:0]), ("few", many[5:7])], 16)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    row_height, cell = CAPTION + 16 + MARGIN, 16 + MARGIN
    assert sheet.shape == (MARGIN + 3 * row_height, MARGIN + ACROSS * cell, 3)

    def crop(row, column):
        top, left = MARGIN + row * row_height + CAPTION, MARGIN + column * cell
        return sheet[top : top + 16, left : left + 16]

    for column, number in enumerate((0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29)):
        np.testing.assert_array_equal(crop(0, column), many[number])
    np.testing.assert_array_equal([crop(2, 0), crop(2, 1)], many[5:7])
    assert (crop(1, 0) == 255).all() and (crop(2, 2) == 255).all()
