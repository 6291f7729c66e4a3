"""Arrays and images that a data set brings: read as they are, or a reason."""

import errno
import gc
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.corruptions import Corruption
from mer_jax.data.decoding import clip_faces, clip_frames, clip_sound, identity, mapped_array, read_images, time_limit
from tests.data.media_files import numbered_frames, tone, write_video


def test_crops_are_turned_to_rgb(tmp_path):
    crops = np.random.default_rng(0).integers(1, 256, (2, 4, 4, 3), np.uint8)
    np.save(tmp_path / "a.npy", crops)
    np.testing.assert_array_equal(clip_faces(Clip("a", "train", faces=tmp_path / "a.npy")), crops[..., ::-1])


def test_a_fault_of_the_interpreter_is_no_fault_of_the_file(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 3), np.uint8))

    def fail(*_, **__):
        raise SystemError("AST constructor recursion depth mismatch (before=54, after=50)")

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(SystemError):
        mapped_array(tmp_path / "a.npy")


def test_black_crops_are_no_face(tmp_path):
    crops = np.full((4, 8, 8, 3), 9, np.uint8)
    crops[[0, 2]] = 0
    crops[3, 1, 1, 1] = 0  # a dark pixel
    np.save(tmp_path / "a.npy", crops)
    clip = Clip("a", "train", faces=tmp_path / "a.npy")
    np.testing.assert_array_equal(clip_faces(clip), crops[[1, 3]][..., ::-1])
    np.save(tmp_path / "a.npy", np.zeros_like(crops))
    with pytest.raises(Absent, match="no face"):
        clip_faces(clip)


def test_images_of_the_first_face_without_the_black_ones(tmp_path):
    grey = {"frame_det_00_000001": 10, "frame_det_00_000002": 0, "frame_det_00_000003": 30, "frame_det_01_000001": 40}
    for name, value in grey.items():
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{name}.bmp")
    faces = clip_faces(Clip("a", "train", faces=tmp_path))
    assert faces[:, 0, 0, 0].tolist() == [10, 30]


def image_folder(folder, names):
    """Images whose grey value is 10 times their place in the list, from 1; the values that are read of them."""
    for number, name in enumerate(names, start=1):
        picture = Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8))
        picture.save(folder / name, format="PNG")
    return [value // 10 for value in clip_faces(Clip("a", "train", faces=folder))[:, 0, 0, 0].tolist()]


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["00001_face.png", "00002_face.png"], [1, 2]),
        (["frame0001_0.png", "frame0002_0.png", "frame0003_0.png"], [1, 2, 3]),
        (["frame0001_0.png", "frame0001_1.png", "frame0002_0.png", "frame0002_1.png"], [1, 3]),
        (["frame0001_3.png", "frame0002_5.png"], [1, 2]),  # one a frame
        (["1_face0.png", "1_face1.png", "2_face0.png"], [1, 3]),
        (["face_0001.png", "face_0002.png"], [1, 2]),
        (["clip1_0001.png", "clip1_0002.png", "clip1_0003.png"], [1, 2, 3]),
        (["s1_001.png", "s1_002.png", "s1_003.png", "s2_001.png", "s2_002.png", "s2_003.png"], [1, 2, 3, 4, 5, 6]),
        (["frame-01-face-0.png", "frame-01-face-1.png", "frame-02-face-0.png", "frame-02-face-1.png"], [1, 3]),
        (["1.face 0.png", "1.face 1.png", "2.face 0.png"], [1, 3]),
        (["person1_frame1.png", "person1_frame2.png", "person2_frame1.png", "person2_frame2.png"], [1, 2]),
        (["track_0_frame_1.png", "track_0_frame_2.png", "track_1_frame_1.png", "track_1_frame_2.png"], [1, 2]),
        (["1_0.png", "2_1.png", "3_0.png", "3_1.png"], [1, 2, 3]),  # a frame's only crop
        (["frame_00_00.png", "frame_00_01.png", "frame_01_00.png", "frame_01_01.png"], [1, 2, 3, 4]),  # times
        (["0_0.png", "0_500.png", "1_0.png", "1_500.png"], [1, 2, 3, 4]),
        (["vid1_1.png", "vid1_2.png", "vid2_1.png", "vid2_2.png"], [1, 2, 3, 4]),
        (["a.jfif", "b.JPE", "c.gif", "d.ppm", "e.jp2", "f.avif"], [1, 2, 3, 4, 5, 6]),
        (["frame_10.png", "frame_2.png", "frame_1.png"], [3, 2, 1]),
        (["a.JPEG", "b.webp", "c.JPG", "d.tif", "e.bmp"], [1, 2, 3, 4, 5]),
        (["frame_det_00_000001.bmp", "frame_det_01_000001.bmp", "mean.png"], [1]),
    ],
)
def test_every_frames_crop_is_read_in_the_order_of_numbers(tmp_path, names, places):
    (tmp_path / "._frame.png").write_bytes(b"of macOS")
    (tmp_path / "Thumbs.db").write_bytes(b"of Windows")
    assert image_folder(tmp_path, names) == places


def test_images_of_another_size_than_most_are_resized(tmp_path):
    for number, side in enumerate((6, 8, 8)):
        Image.fromarray(np.full((side, side, 3), 50, np.uint8)).save(tmp_path / f"{number}.png")
    faces = clip_faces(Clip("a", "train", faces=tmp_path))
    np.testing.assert_array_equal(faces, np.full((3, 8, 8, 3), 50, np.uint8))


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


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(4), tone(0.5))
    np.save(tmp_path / "a.npy", np.full((2, 8, 8, 3), 9, np.uint8))
    return Clip("a", "test", media=tmp_path / "a.mp4", faces=tmp_path / "a.npy")


def test_a_clip_gives_what_its_files_hold(clip):
    np.testing.assert_array_equal(clip_sound(clip, 16_000), tone(0.5))
    np.testing.assert_array_equal(clip_frames(clip, lambda total: np.array([1, total - 1])), numbered_frames(4)[[1, 3]])


def test_what_is_read_is_corrupted(clip):
    corruption = Corruption(seed=1, snr_db=5.0, blur=0.0, downsample=1.0, dropped=())
    noisy = clip_sound(replace(clip, corruption=corruption), 16_000)
    np.testing.assert_array_equal(noisy, corruption.sound(tone(0.5)))
    for modality, read in (("video", lambda clip: clip_frames(clip, np.arange)), ("image", clip_faces)):
        dropping = replace(corruption, dropped=(modality,))
        with pytest.raises(Absent, match="dropped on purpose"):
            read(replace(clip, corruption=dropping))
        others = replace(corruption, dropped=tuple({"speech", "image", "video"} - {modality}))
        np.testing.assert_array_equal(read(replace(clip, corruption=others)), read(clip))


def test_why_there_is_nothing_to_read(clip):
    bare = replace(clip, media=None, faces=None)
    for read in (lambda clip: clip_sound(clip, 16_000), lambda clip: clip_frames(clip, np.arange), clip_faces):
        with pytest.raises(Absent, match="row without a clip"):
            read(bare)
    with pytest.raises(Absent, match="crashed"):
        clip_faces(replace(clip, faces=None, no_faces="crashed"))
    np.save(clip.faces, np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(Absent, match="no face"):
        clip_faces(clip)


def test_large_files_may_take_longer(tmp_path):
    path = tmp_path / "a.mp4"
    with open(path, "wb") as file:
        file.truncate(3 * 2**20)
    assert time_limit(Clip("a", "train", media=path), 20.0) == 23.0
    assert (
        time_limit(Clip("a", "train"), 20.0) == time_limit(Clip("a", "train", media=tmp_path / "b.mp4"), 20.0) == 20.0
    )


def test_a_files_identity_changes_with_its_size_and_its_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.utime(path, ns=(0, 1))
    first = identity(path)
    os.utime(path, ns=(0, 2))
    second = identity(path)
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 2))
    assert len({first, second, identity(path)}) == 3
    assert identity(None) == identity(tmp_path / "none") == "none"


def test_arrays_of_an_absurd_size_pipes_and_complex_numbers_are_refused_at_once(tmp_path):
    sparse = tmp_path / "sparse.npy"
    np.lib.format.open_memmap(sparse, "w+", np.float32, (2**20, 2**16))  # 256 GiB, of which nothing is written
    os.mkfifo(tmp_path / "pipe.npy")
    np.save(tmp_path / "complex.npy", np.ones(3, np.complex64))
    for name, reason in (("sparse", "256.0 GiB"), ("pipe", "not a regular file"), ("complex", "complex64")):
        with pytest.raises(Absent, match=rf"{name}\.npy cannot be read: .*{reason}"):
            mapped_array(tmp_path / f"{name}.npy")


def test_images_that_together_are_too_large_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    for number in range(3):
        Image.new("RGB", (64, 64), "red").save(tmp_path / f"{number}.png")
    assert read_images(tmp_path).shape == (3, 64, 64, 3)
    Image.new("L", (4000, 1)).save(tmp_path / "9.png")
    with pytest.raises(Absent, match=r"9\.png is more than 3840 px across"):
        read_images(tmp_path)
    (tmp_path / "9.png").unlink()
    monkeypatch.setattr("mer_jax.data.decoding.MOST_BYTES", 2 * 64 * 64 * 3)
    with pytest.raises(Absent, match="more than"):
        read_images(tmp_path)
    os.mkfifo(tmp_path / "0.bmp")
    with pytest.raises(Absent, match="not a regular file"):
        read_images(tmp_path)


@pytest.fixture
def restless_threads():
    """They take turns at every collection of garbage, as JAX's do, and that is often."""
    interval, threshold, turn = sys.getswitchinterval(), gc.get_threshold(), lambda *_: time.sleep(0)
    sys.setswitchinterval(1e-6)
    gc.set_threshold(3)
    gc.callbacks.append(turn)
    yield
    gc.callbacks.remove(turn)
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


def test_an_array_counts_as_what_it_will_be_converted_to(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros(8, np.uint8))
    monkeypatch.setattr("mer_jax.data.decoding.MOST_BYTES", 31)
    assert len(mapped_array(tmp_path / "a.npy")) == 8
    with pytest.raises(Absent, match=r"a\.npy cannot be read: it holds 0\.0 GiB, more than"):
        mapped_array(tmp_path / "a.npy", bytes_each=4)


def test_arrays_are_read_by_many_threads_at_once(tmp_path, restless_threads):
    """Python 3.11's parser, which numpy reads headers with, fails where threads of other depths take turns in it."""
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.uint8))

    def read(depth):
        garbage = []
        garbage.append(garbage)
        return read(depth - 1) if depth else mapped_array(tmp_path / "a.npy").shape

    with ThreadPoolExecutor(8) as readers:
        assert set(readers.map(read, [i % 7 for i in range(3000)])) == {(2, 3)}


def test_what_the_system_does_not_give_is_not_absent(tmp_path, monkeypatch):
    def lost(path, *_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("mer_jax.data.decoding.open_regular", lost)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "1.png").touch()
    for read, path in ((mapped_array, tmp_path / "a.npy"), (read_images, tmp_path / "faces")):
        with pytest.raises(OSError, match="Input/output"):
            read(path)


def test_an_image_of_absurd_size_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "1.webp").write_bytes(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
    os.truncate(tmp_path / "1.webp", 240 * 2**30)
    with pytest.raises(Absent, match="245,760 MiB, where 512 are the most"):
        read_images(tmp_path)


def test_a_file_that_may_not_be_read_has_another_name(tmp_path, monkeypatch):
    """So that its absence is not kept for the time when it may."""
    (tmp_path / "a.mp4").touch()
    before = identity(tmp_path / "a.mp4")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert identity(tmp_path / "a.mp4") == f"{before}|no access"


@pytest.mark.parametrize("kind", ["EPS", "PCX"])
def test_what_is_no_image_of_the_usual_kinds_is_not_opened_whatever_its_name(tmp_path, kind):
    """Pillow would have Ghostscript run the program that an EPS file is."""
    Image.new("RGB", (8, 8)).save(tmp_path / "0.jpg", kind)
    with pytest.raises(Absent, match=r"cannot identify image file .*0\.jpg"):
        read_images(tmp_path)


def test_images_of_sixteen_bits_lose_the_lower_ones(tmp_path):
    """Pillow's own conversion clips: all but the darkest would be white (Pillow 3011)."""
    grey = np.arange(1, 65, dtype=np.uint16).reshape(8, 8) * 1000
    for suffix in ("png", "tif"):
        Image.fromarray(grey).save(tmp_path / f"frame.{suffix}")
    images = read_images(tmp_path)
    np.testing.assert_array_equal(images, np.broadcast_to((grey >> 8)[..., None], (2, 8, 8, 3)))
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "fractions.tif")
    with pytest.raises(Absent, match="fractions, expected 8 or 16 bits"):
        read_images(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_as_their_exif_says(tmp_path, orientation):
    """As viewers show them; Pillow leaves it to its users (datasets 6252, kohya-ss 1316)."""
    shown = np.random.default_rng(0).integers(1, 255, (6, 4, 3), np.uint8)
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_270"}  # what a camera that lies so stores
    stored, exif = Image.fromarray(shown), Image.Exif()
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[turns[orientation]])
    exif[0x0112] = orientation
    stored.save(tmp_path / "frame_1.png", exif=exif)
    np.testing.assert_array_equal(read_images(tmp_path), shown[None])
