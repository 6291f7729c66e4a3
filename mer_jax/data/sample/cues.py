"""How each of the six emotions looks at full strength: the face, and what whole frames show beside it."""

from dataclasses import dataclass

import numpy as np

from mer_jax.data.sample.face import Expression
from mer_jax.data.sample.scene import GESTURES, ROOMS, Scene

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")

FACES: dict[str, Expression] = {
    "neutral": Expression(),
    "angry": Expression(
        brow_raise=-0.8, brow_tilt=-1, brow_knit=0.9, eye_open=0.1, smile=-0.45, mouth_open=0.12, lip_press=0.85
    ),
    "happy": Expression(brow_raise=0.2, brow_tilt=0.1, eye_open=-0.35, smile=1, mouth_open=0.45),
    "sad": Expression(
        brow_raise=0.1, brow_tilt=0.95, brow_knit=0.3, eye_open=-0.5, smile=-0.85, lip_press=0.15, gaze_down=0.8
    ),
    "worried": Expression(
        brow_raise=0.45, brow_tilt=0.75, brow_knit=1, eye_open=0.3, smile=-0.35, mouth_open=0.2, lip_press=0.4
    ),
    "surprise": Expression(brow_raise=1.1, brow_tilt=0.1, eye_open=1, mouth_open=0.9),
}


@dataclass(frozen=True)
class Bearing:
    """A typical gesture and what the emotion adds to a scene's light and to the height of the shoulders."""

    gesture: str
    warmth: float
    brightness: float
    shoulders: float


BEARINGS: dict[str, Bearing] = {
    "neutral": Bearing("none", 0, 0, 0),
    "angry": Bearing("fist", 0.5, -0.2, 0.3),
    "happy": Bearing("thumb up", 0.4, 0.5, 0.1),
    "sad": Bearing("hand on cheek", -0.5, -0.5, -0.3),
    "worried": Bearing("hand at chin", -0.3, -0.2, 0.4),
    "surprise": Bearing("open palm", 0, 0.4, 0.4),
}
STRAY_GESTURES = 0.2  # share of clips whose gesture has nothing to do with the emotion


def random_scene(emotion: str, intensity: float, rng: np.random.Generator) -> Scene:
    """Draws a room and a bearing that lean towards an emotion; at intensity 0 they tell nothing."""
    bearing = BEARINGS[emotion]
    gesture = bearing.gesture if rng.random() < 0.6 * intensity else "none"
    if rng.random() < STRAY_GESTURES:
        gesture = str(rng.choice(GESTURES))
    lean = intensity * np.array([bearing.warmth, bearing.brightness])
    warmth, brightness = rng.normal(lean, 0.3).clip(-1, 1).tolist()
    red, green, blue = rng.integers(120, 181, 3).tolist()
    shirt_red, shirt_green, shirt_blue = rng.integers(40, 171, 3).tolist()
    return Scene(
        room=str(rng.choice(ROOMS)),
        hue=(red, green, blue),
        warmth=warmth,
        brightness=brightness,
        shoulders=float(np.clip(rng.normal(0.4 + intensity * bearing.shoulders, 0.15), 0, 1)),
        gesture=gesture,
        shirt=(shirt_red, shirt_green, shirt_blue),
        light=float(rng.choice((-0.6, 0.6))),
        texture=int(rng.integers(2**31)),
    )
