"""The detector on drawn faces; all frames have one shape, so one program is compiled."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mer_jax.data.clips import Clip
from mer_jax.data.detect import FaceDetector, same_faces
from mer_jax.data.faces import FACE_SIZE, Faces, MainFace, align, crop_clip, crop_main_face, fit, unfit
from mer_jax.data.media import Block
from tests.data.media_files import write_video

LANDMARKS = np.array([(-20, -11), (20, -11), (0, 10), (-17, 32), (17, 32)])  # where the network sees those drawn


def draw_face(x, y, scale=1.0, size=(320, 180)):
    """A shaded cartoon whose landmarks lie about (x, y) + scale * LANDMARKS, on a grey wall."""
    image = Image.new("RGB", (size[0] * 4, size[1] * 4), (120, 125, 130))
    paint = ImageDraw.Draw(image)

    def ellipse(cx, cy, rx, ry, color):
        box = [x + scale * (cx - rx), y + scale * (cy - ry), x + scale * (cx + rx), y + scale * (cy + ry)]
        paint.ellipse([4 * v for v in box], color)

    ellipse(0, -8, 50, 66, (60, 40, 30))
    for shade in range(10):
        ellipse(0, 6, 46 - shade, 60 - shade, (190 + 4 * shade, 140 + 4 * shade, 115 + 4 * shade))
    for cx, cy in ((-20, -10), (20, -10)):
        ellipse(cx, cy - 13, 13, 3, (60, 40, 30))
        ellipse(cx, cy, 11, 6, (245, 245, 245))
        ellipse(cx, cy, 5, 5, (40, 30, 25))
    ellipse(0, 6, 5, 16, (205, 150, 125))
    ellipse(0, 17, 9, 5, (190, 130, 110))
    ellipse(0, 32, 18, 6, (170, 70, 70))
    ellipse(0, 32, 14, 1.5, (90, 30, 30))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def detector():
    return FaceDetector(batch_size=4)


def detect(detector, frames):
    """The faces in frames of any one size, uint8 RGB [T, H, W, 3]; one `Faces` per frame."""
    fitted, to_frame = fit(Block.of(frames))
    return [unfit(faces, to_frame) for faces in detector.find(fitted)]


def answered(detector, questions):
    """What a generator such as `crop_clip` returns, when it is given the faces that it asks for."""
    try:
        fitted = next(questions)
        while True:
            fitted = questions.send(detector.find(fitted))
    except StopIteration as stop:
        return stop.value


def crop_faces(detector, frames, size=FACE_SIZE):
    """uint8 [T, H, W, 3] -> (uint8 [T', size, size, 3], T - T')."""
    return answered(detector, crop_main_face([Block.of(frames)], size))


PLACES = [(80, 90, 0.8), (160, 90, 1.0), (230, 80, 0.9), (150, 100, 0.6), (100, 85, 1.1)]


def test_finds_a_drawn_face_and_its_landmarks(detector):
    faces = detect(detector, np.stack([draw_face(*place) for place in PLACES]))
    for (x, y, scale), found in zip(PLACES, faces, strict=True):
        assert found.boxes.shape == (1, 4)
        assert found.landmarks.shape == (1, 5, 2)
        assert found.scores[0] > 0.8
        np.testing.assert_allclose(found.landmarks[0], (x, y) + scale * LANDMARKS, rtol=0, atol=2.5 * scale)
        assert (found.boxes[0, :2] < found.landmarks[0].min(axis=0)).all()
        assert (found.boxes[0, 2:] > found.landmarks[0].max(axis=0)).all()


def test_finds_two_faces(detector):
    frame = draw_face(80, 90, 0.8)
    frame = np.concatenate([frame[:, :160], draw_face(240, 90, 0.7)[:, 160:]], axis=1)
    (faces,) = detect(detector, frame[None])
    for x, scale in ((80, 0.8), (240, 0.7)):
        (landmarks,) = (points for points in faces.landmarks if abs(points[2, 0] - x) < 50)
        np.testing.assert_allclose(landmarks, (x, 90) + scale * LANDMARKS, rtol=0, atol=2.5 * scale)


@pytest.mark.parametrize("size", [(320, 180), (214, 120), (512, 288)])
def test_frames_are_resized_without_a_shift(size):
    y, x = np.mgrid[:360, :640]
    waves = (128 + 60 * np.sin(x / 17) + 50 * np.cos(y / 13)).round()
    exact = np.asarray(Image.fromarray(waves.astype(np.float32)).resize(size, Image.Resampling.BILINEAR), np.float64)
    resized = Block.of(np.repeat(waves[None, ..., None], 3, -1).astype(np.uint8)).resized(*size)[0, ..., 0]
    inside = (slice(4, -4), slice(4, -4))
    slopes = np.stack([slope[inside].ravel() for slope in np.gradient(exact)], axis=1)
    shift, *_ = np.linalg.lstsq(slopes, (exact - resized)[inside].ravel())
    np.testing.assert_allclose(shift, 0, atol=0.002)  # pixels
    np.testing.assert_allclose(resized[inside], exact[inside], atol=0.6)


def test_coordinates_are_those_of_the_frame_given(detector):
    """Found in the frame that `fit` has shrunk, and told in pixels of the frame itself."""
    large = np.stack([draw_face(2 * x, 2 * y, 2 * scale, (640, 360)) for x, y, scale in PLACES])
    small = Block.of(large).resized(320, 180)
    a, b = (np.stack([found.landmarks[0] for found in detect(detector, frames)]) for frames in (small, large))
    np.testing.assert_allclose(2 * (a + 0.5) - 0.5, b, atol=1e-3)


def test_finds_nothing_in_noise_or_on_a_wall(detector):
    noise = np.random.default_rng(0).integers(0, 256, (3, 180, 320, 3), np.uint8)
    wall = np.full((1, 180, 320, 3), 120, np.uint8)
    assert [len(f.scores) for f in detect(detector, np.concatenate([noise, wall]))] == [0, 0, 0, 0]


def test_a_frame_is_judged_alike_in_any_company(detector):
    frames = np.stack([draw_face(*place) for place in PLACES])
    alone, together = detect(detector, frames[2:3])[0], detect(detector, frames)[2]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_crops_follow_the_main_face_and_drop_frames_without(detector):
    wall = np.full((180, 320, 3), 120, np.uint8)
    frames = np.stack([draw_face(100, 90), wall, draw_face(110, 85, 0.7)])
    crops, missing = crop_faces(detector, frames)
    first, _, last = (faces.landmarks for faces in detect(detector, frames))
    np.testing.assert_array_equal(crops, [align(frames[0], first[0], 128), align(frames[2], last[0], 128)])
    assert crops.dtype == np.uint8 and missing == 1
    # Both show the same face at the same place, though one was smaller.
    assert np.abs(crops[0].astype(int) - crops[1]).mean() < 10 < np.abs(crops[0].astype(int) - crops[1, ::-1]).mean()


def story():
    """A face that moves and grows, goes, comes back, and then two others: 21 frames."""
    wall = np.full((180, 320, 3), 120, np.uint8)
    moving = [draw_face(130 + 4 * i, 90 + i, 0.9 + 0.02 * i) for i in range(5)]
    two = np.concatenate([draw_face(90, 95, 0.7)[:, :160], draw_face(235, 85, 0.9)[:, 160:]], axis=1)
    return np.stack([*moving, wall, wall, *moving[::-1], two, *moving, two, two, wall])


@pytest.mark.parametrize("stride", [4, 16])
def test_between_key_frames_the_same_faces_are_found(detector, stride):
    """Bit for bit, as in clips of real faces. Frames in which anything changes are searched for all faces."""
    frames = story()
    every, keyed = FaceDetector(1, batch_size=4), FaceDetector(stride, batch_size=4)
    fitted, _ = fit(Block.of(frames))
    for a, b in zip(every.find(fitted), keyed.find(fitted), strict=True):
        np.testing.assert_equal(a._asdict(), b._asdict())
    assert [len(faces.scores) for faces in keyed.find(fitted)] == [1] * 5 + [0] * 2 + [1] * 5 + [2] + [1] * 5 + [
        2,
        2,
        0,
    ]
    crops, missing = crop_faces(every, frames)
    keyed_crops, keyed_missing = crop_faces(keyed, frames)
    np.testing.assert_array_equal(crops, keyed_crops)
    assert missing == keyed_missing > 2


def test_a_cut_to_others_follows_the_rule_of_the_main_face():
    """Where a large face was there is a small one now, which is the nearer, and the large one is somebody else's."""
    after = np.concatenate([draw_face(80, 90, 0.3)[:, :160], draw_face(240, 90, 1.3)[:, 160:]], axis=1)
    fitted, _ = fit(Block.of(np.stack([draw_face(80, 90, 1.3), after])))
    faces = FaceDetector(16, batch_size=4).find(fitted)
    main_face = MainFace()
    centres = [found.landmarks[main_face.choose(found.boxes), 2, 0] for found in faces]
    np.testing.assert_allclose(centres, 80, atol=5)
    assert len(faces[1].scores) == 2


def test_frames_whose_faces_stay_are_not_searched_for_small_ones(monkeypatch):
    detector, levels = FaceDetector(16, batch_size=4), []
    search = detector.search
    monkeypatch.setattr(detector, "search", lambda fitted, first: levels.append(dict(first)) or search(fitted, first))
    face = draw_face(160, 90)
    detector.find(fit(Block.of(np.stack([face] * 3 + [np.full_like(face, 120)])))[0])
    assert list(filter(None, levels)) == [{0: 0}, {1: 2, 2: 2, 3: 2}, {3: 0}]


def test_after_a_key_frame_without_a_face_every_fourth_is_searched(monkeypatch):
    """And all between two of which either has one: none is lost that stays for as long."""
    detector, searched = FaceDetector(16, batch_size=4), []
    search = detector.search
    monkeypatch.setattr(detector, "search", lambda fitted, first: searched.extend(first) or search(fitted, first))
    wall, face = np.full((180, 320, 3), 120, np.uint8), draw_face(160, 90)
    fitted, _ = fit(Block.of(np.stack([wall] * 6 + [face] * 5 + [wall] * 11)))
    counts = [len(faces.scores) for faces in detector.find(fitted)]
    assert counts == [0] * 6 + [1] * 5 + [0] * 11
    assert sorted(searched) == [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 20, 21]
    assert [len(faces.scores) for faces in FaceDetector(1, batch_size=4).find(fitted)] == counts


def faces_at(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(boxes, np.ones(len(boxes), np.float32), np.zeros((len(boxes), 5, 2), np.float32))


def test_faces_are_the_same_where_each_stays_about_its_place():
    a, b, beside_a = (0, 0, 10, 10), (50, 0, 70, 20), (0, 6, 10, 16)
    assert same_faces(faces_at(a, b), faces_at((51, 1, 71, 21), (1, 1, 11, 11)))  # in any order
    assert same_faces(faces_at(), faces_at())
    assert not same_faces(faces_at(a), faces_at(beside_a))
    assert not same_faces(faces_at(a), faces_at(a, b)) and not same_faces(faces_at(a, b), faces_at(a))
    assert not same_faces(faces_at(a, b), faces_at(a, a))


def test_a_face_in_large_frames_is_cut_where_it_is(tmp_path, detector):
    """Frames of 2400 px are shrunk on the way, and its place is told in pixels of the shrunk ones."""
    face = draw_face(100, 90)
    large = np.asarray(Image.fromarray(face).resize((2400, 1350), Image.Resampling.BILINEAR))
    write_video(tmp_path / "large.mp4", large[None])
    write_video(tmp_path / "small.mp4", face[None])
    crops = {}
    for name in ("large", "small"):
        crops[name], missing = answered(
            detector, crop_clip(Clip(name, "train", media=tmp_path / f"{name}.mp4"), 128, 8)
        )
        assert missing == 0
    assert np.abs(crops["large"].astype(int) - crops["small"]).mean() < 4


def test_a_clip_without_faces_gives_no_crops(detector):
    crops, missing = crop_faces(detector, np.full((2, 180, 320, 3), 120, np.uint8), size=64)
    assert crops.shape == (0, 64, 64, 3)
    assert missing == 2
