import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mer_jax.data.faces import MEAN_FACE, Faces, MainFace, align, fit, similarity, to_jpeg, unfit
from mer_jax.data.media import Block

TEMPLATE = MEAN_FACE * 0.8 + 64  # OpenFace's scale at 128 pixels


def moved(points, angle, scale, shift):
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + shift


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-300, 300), st.floats(-300, 300))
def test_similarity_undoes_any_similarity(angle, scale, x, y):
    landmarks = moved(TEMPLATE, angle, scale, (x, y))
    matrix = similarity(landmarks, 128)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    landmarks = TEMPLATE + rng.normal(0, 5, TEMPLATE.shape)

    def error(matrix):
        return np.square(landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE).sum()

    best = similarity(landmarks, 128)
    for _ in range(50):
        a, b, c, d = rng.normal(0, 1e-3, 4)
        assert error(best + np.array([[a, -b, c], [b, a, d]])) > error(best)


def test_crops_scale_with_their_size():
    landmarks = moved(TEMPLATE, 0.2, 1.5, (30, 20))
    np.testing.assert_allclose(similarity(landmarks, 112) / similarity(landmarks, 128), 112 / 128)


def test_align_copies_a_face_that_already_lies_so():
    frame = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    crop = align(frame, TEMPLATE)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop.astype(int), frame, atol=1)


def test_align_puts_the_landmarks_where_the_mean_face_has_them():
    landmarks = moved(TEMPLATE, 0.4, 1.3, (120, 30))
    for landmark, expected in zip(landmarks, TEMPLATE, strict=True):
        frame = np.zeros((300, 400, 3), np.uint8)
        spot = np.square(np.indices((300, 400)).T - landmark[::-1]).sum(axis=2).T < 6**2
        frame[spot] = 200
        y, x = np.nonzero(align(frame, landmarks)[..., 0] > 100)
        np.testing.assert_allclose((x.mean(), y.mean()), expected, atol=0.3)


def test_align_is_black_outside_the_frame():
    crop = align(np.full((128, 128, 3), 200, np.uint8), TEMPLATE + np.array([64, 0]))
    assert (crop[:, :63] == 200).all()
    assert not crop[:, 65:].any()


def test_main_face_is_the_largest_first_then_the_nearest():
    left, right = np.array([10, 10, 40, 40.0]), np.array([200, 10, 290, 100.0])
    none = np.zeros((0, 4))
    main_face = MainFace()
    boxes = [
        none,
        np.stack([left, right]),
        np.stack([right + 5, left * 3]),
        none,
        np.stack([left, right + 9]),
        left[None],  # too far away to be the same face
        np.stack([left, right]),
    ]
    assert [main_face.choose(frame) for frame in boxes] == [None, 1, 0, None, 1, None, 1]


def test_a_face_that_stays_away_is_replaced_in_the_end():
    main_face = MainFace()
    near, far = np.array([[0, 0, 10, 10.0]]), np.array([[95, 0, 105, 10.0]])
    assert main_face.choose(near) == 0
    assert [main_face.choose(far) for _ in range(11)] == [None] * 9 + [0, 0]


@pytest.mark.parametrize(
    ("size", "fitted_size", "inside"),
    [((640, 360), (320, 192), (320, 180)), ((360, 640), (192, 320), (180, 320)), ((100, 80), (320, 256), (320, 256))],
)
def test_frames_are_fitted_and_faces_told_in_their_pixels(size, fitted_size, inside):
    fitted, to_frame = fit(Block.of(np.full((2, size[1], size[0], 3), 200, np.uint8)))
    assert fitted.shape == (2, fitted_size[1], fitted_size[0], 3)
    assert (fitted[:, : inside[1], : inside[0]] == 200).all()
    assert (fitted[:, inside[1] :] == 127).all() and (fitted[:, :, inside[0] :] == 127).all()
    # The outer edges of a picture's corner pixels lie at -0.5 and at its size less 0.5, fitted or not.
    corners = np.array([[-0.5, -0.5, inside[0] - 0.5, inside[1] - 0.5]], np.float32)
    faces = unfit(Faces(corners, np.ones(1, np.float32), corners.reshape(1, 2, 2)), to_frame)
    np.testing.assert_allclose(faces.boxes, [[-0.5, -0.5, size[0] - 0.5, size[1] - 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(faces.landmarks.ravel(), faces.boxes.ravel())


@pytest.mark.parametrize(("short_side", "size"), [(0, (60, 40)), (40, (60, 40)), (50, (60, 40)), (20, (30, 20))])
def test_jpegs_are_rgb_shrunk_and_never_enlarged(short_side, size):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 0::2], picture[:, 1::2] = (200, 40, 90), (90, 40, 200)  # every pixel its own colour
    again = Image.open(io.BytesIO(to_jpeg(picture, short_side)))
    assert again.size == size
    if size == (60, 40):
        np.testing.assert_allclose(np.asarray(again).astype(int), picture, rtol=0, atol=12)
