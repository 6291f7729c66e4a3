"""Drawn faces and the scenes around them."""

import numpy as np
import pytest

from mer_jax.data.faces import align, similarity
from mer_jax.data.sample.cues import BEARINGS, EMOTIONS, FACES, random_scene
from mer_jax.data.sample.face import Expression, Portrait, Pose, describe
from mer_jax.data.sample.persons import random_person
from mer_jax.data.sample.scene import GESTURES, Scene

PERSON = random_person(np.random.default_rng(3))


@pytest.fixture(scope="module")
def portrait():
    return Portrait(PERSON, Scene())


def test_landmarks_follow_the_head(portrait):
    frame, rest = portrait.draw(Pose(), Expression())
    _, moved = portrait.draw(Pose(x=7, y=-4), Expression())
    assert frame.shape == (128, 160, 3) and frame.dtype == np.uint8
    assert rest.shape == (5, 2) and rest.dtype == np.float32
    np.testing.assert_allclose(moved - rest, np.tile((7, -4), (5, 1)), atol=1e-4)
    assert rest[0, 0] < rest[2, 0] < rest[1, 0] and rest[0, 1] < rest[2, 1] < rest[3, 1]


def test_landmarks_are_where_the_features_are_drawn(portrait):
    """A crop aligned by them hardly depends on where and how large the head is in the frame."""
    crops = [align(*portrait.draw(pose, Expression()), 112)[30:90, 25:87] for pose in (Pose(), Pose(9, 5, 1.1, 0.1))]
    assert np.abs(crops[0].astype(int) - crops[1]).mean() < 6
    _, landmarks = portrait.draw(Pose(), Expression())
    eyes = np.c_[landmarks[:2], [1, 1]] @ similarity(landmarks, 112).T
    assert np.abs(eyes - [(33, 29), (79, 29)]).max() < 8  # the mean face's


def test_expressions_add_and_scale():
    sum_ = FACES["happy"] * 0.5 + Expression(smile=0.1, gaze_down=0.2)
    assert sum_.smile == pytest.approx(0.6)
    assert sum_.gaze_down == pytest.approx(0.2)
    assert FACES["angry"] * 0 == Expression()


def test_each_emotion_looks_and_reads_different(portrait):
    crops = np.stack([align(*portrait.draw(Pose(), FACES[e]), 112) for e in EMOTIONS]).astype(int)
    for i, crop in enumerate(crops):
        others = np.delete(crops, i, axis=0)
        assert np.abs(others - crop).mean(axis=(1, 2, 3)).min() > 1.5
    assert len({describe(PERSON, FACES[e]) for e in EMOTIONS}) == len(EMOTIONS)


def test_lids_shut_when_blinking(portrait):
    open_, eyes = portrait.draw(Pose(), Expression())
    shut, _ = portrait.draw(Pose(blink=1), Expression())
    x, y = eyes[0].astype(int)
    changed = np.abs(open_.astype(int) - shut).max(axis=2) > 20
    assert changed[y - 5 : y + 6, x - 9 : x + 10].any()
    assert not changed[90:].any()


@pytest.mark.parametrize("gesture", GESTURES)
def test_every_gesture_can_be_drawn(gesture):
    frame, _ = Portrait(PERSON, Scene(gesture=gesture)).draw(Pose(), Expression())
    plain, _ = Portrait(PERSON, Scene()).draw(Pose(), Expression())
    assert (frame != plain).any() == (gesture != "none")


def test_scenes_lean_towards_their_emotion_and_tell_nothing_at_intensity_zero():
    def draw(emotion, intensity):
        rng = np.random.default_rng(0)
        scenes = [random_scene(emotion, intensity, rng) for _ in range(400)]
        typical = np.mean([scene.gesture == BEARINGS[emotion].gesture for scene in scenes])
        return typical, np.mean([scene.brightness for scene in scenes])

    assert draw("happy", 1.0)[0] > 0.4 > 0.1 > draw("happy", 0.0)[0]
    assert draw("happy", 1.0)[1] > 0.3 > -0.3 > draw("sad", 1.0)[1]
    assert draw("happy", 0.0)[1] == draw("sad", 0.0)[1]
