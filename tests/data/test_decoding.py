"""Arrays and images that a data set brings: read as they are, or a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import clip_faces, mapped_array


def test_crops_are_turned_to_rgb(tmp_path):
    crops = np.random.default_rng(0).integers(1, 256, (2, 4, 4, 3), np.uint8)
    np.save(tmp_path / "a.npy", crops)
    np.testing.assert_array_equal(clip_faces(Clip("a", "train", faces=tmp_path / "a.npy")), crops[..., ::-1])


def test_images_of_the_first_face_without_the_black_ones(tmp_path):
    grey = {"frame_det_00_000001": 10, "frame_det_00_000002": 0, "frame_det_00_000003": 30, "frame_det_01_000001": 40}
    for name, value in grey.items():
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{name}.bmp")
    faces = clip_faces(Clip("a", "train", faces=tmp_path))
    assert faces[:, 0, 0, 0].tolist() == [10, 30]


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY\1\0", b"\x80\4K\1."])
def test_what_is_no_array_is_absent(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(Absent, match=r"a\.npy cannot be read"):
        clip_faces(Clip("a", "train", faces=tmp_path / "a.npy"))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 7)), min_size=1, max_size=4))
def test_a_damaged_header_is_an_array_or_absent(tmp_path_factory, flips):
    path = tmp_path_factory.mktemp("damaged") / "a.npy"
    np.save(path, np.zeros((2, 4, 4, 3), np.uint8))
    content = bytearray(path.read_bytes())
    for position, bit in flips:
        content[position] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert isinstance(mapped_array(path), np.ndarray)
    except Absent as reason:
        assert "a.npy cannot be read" in str(reason)
