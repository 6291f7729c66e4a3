"""How each of the six emotions looks and sounds at full strength."""

from mer_jax.data.sample.face import Expression

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")

FACES: dict[str, Expression] = {
    "neutral": Expression(),
    "angry": Expression(brow_raise=-0.8, brow_tilt=-1, brow_knit=0.9, eye_open=0.1, smile=-0.45, mouth_open=0.12, lip_press=0.85),
    "happy": Expression(brow_raise=0.2, brow_tilt=0.1, eye_open=-0.35, smile=1, mouth_open=0.45),
    "sad": Expression(brow_raise=0.1, brow_tilt=0.95, brow_knit=0.3, eye_open=-0.5, smile=-0.85, lip_press=0.15, gaze_down=0.8),
    "worried": Expression(brow_raise=0.45, brow_tilt=0.75, brow_knit=1, eye_open=0.3, smile=-0.35, mouth_open=0.2, lip_press=0.4),
    "surprise": Expression(brow_raise=1.1, brow_tilt=0.1, eye_open=1, mouth_open=0.9),
}  # fmt: skip
