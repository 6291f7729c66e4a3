"""Draws talking faces: a person, a pose and an expression give a frame and five landmarks.

A head is painted once on a canvas larger than the frame shows it (skin shading, hair, ears). Per frame only eyes,
brows, nose and mouth are drawn on a copy of it, which is then warped into the frame.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from mer_jax.data.sample.persons import HAIRS, SKINS, Color, Person
from mer_jax.data.sample.scene import FRAME, Scene

CANVAS = (256, 300)
CENTER_X, EYE_Y, BROW_Y, NOSE_Y, MOUTH_Y, CHIN_Y = 128, 146, 127, 178, 201, 236
HEAD_Y, HEAD_HALF = 149, 87  # the middle and half the height of the skull's outline
HALF_WIDTH, EYE_X = 61, 29
HEAD_IN_FRAME = (FRAME[0] / 2, 62.0)  # where the canvas point (CENTER_X, HEAD_Y) sits at rest
CLOSE_UP = 0.62  # pixels of the frame per pixel of the canvas: the head fills most of the frame


@dataclass(frozen=True)
class Expression:
    """Muscle-like controls of a face: 0 is relaxed, 1 the strongest natural movement, -1 its opposite."""

    brow_raise: float = 0.0
    brow_tilt: float = 0.0  # inner ends up (grief) or, negative, down (anger)
    brow_knit: float = 0.0
    eye_open: float = 0.0
    smile: float = 0.0  # corners of the mouth up, or down
    mouth_open: float = 0.0
    lip_press: float = 0.0
    gaze_down: float = 0.0

    def __add__(self, other: "Expression") -> "Expression":
        return Expression(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __mul__(self, factor: float) -> "Expression":
        return Expression(**{name: factor * value for name, value in vars(self).items()})


CONTROLS = tuple(field.name for field in fields(Expression))


@dataclass(frozen=True)
class Pose:
    """Where the head is: shift in pixels, scale around 1, roll in radians, yaw and pitch in [-1, 1]."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    blink: float = 0.0  # 1 = lids shut


class Portrait:
    """One person before one scene; `draw` gives its frames."""

    def __init__(self, person: Person, scene: Scene):
        self.person = person
        self._backdrop = scene.backdrop(SKINS[person.skin])
        self._hand = scene.hand(SKINS[person.skin])
        self._head, self._mask = _head(person, scene.light)
        self._nose = _nose(person, scene.light)

    def draw(self, pose: Pose, expression: Expression) -> tuple[np.ndarray, np.ndarray]:
        """Returns the frame, [H, W, 3] uint8 RGB, and its landmarks, [5, 2] float32 (x, y) in pixels.

        Landmarks: left eye, right eye, nose tip, left and right corner of the mouth; left is the smaller x.
        """
        canvas = self._head.copy()
        landmarks = _features(canvas, self.person, self._nose, pose, expression)
        scale = CLOSE_UP * pose.scale
        cos, sin = scale * np.cos(pose.roll), scale * np.sin(pose.roll)
        rotation = np.array([[cos, -sin], [sin, cos]])
        center = np.array([CENTER_X, HEAD_Y])
        target = np.array([HEAD_IN_FRAME[0] + pose.x, HEAD_IN_FRAME[1] + pose.y])
        inverse = rotation.T / scale**2
        offset = center - inverse @ target
        affine = (*inverse[0], offset[0], *inverse[1], offset[1])
        head = canvas.transform(FRAME, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        mask = self._mask.transform(FRAME, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        frame = self._backdrop.copy()
        frame.paste(head, mask=mask)
        if self._hand is not None:
            sprite, (x, y) = self._hand
            frame.paste(sprite, (round(x + 2 * pose.x), round(y - 3 * pose.y)), sprite)
        return np.asarray(frame), ((landmarks - center) @ rotation.T + target).astype(np.float32)


def describe(person: Person, expression: Expression) -> str:
    """An English caption of what is visible, for contrastive pre-training."""
    e = expression
    brows = (
        "lowered, knitted brows" if e.brow_tilt < -0.35 else
        "slanted, knitted brows" if e.brow_tilt > 0.35 and e.brow_knit > 0.5 else
        "slanted brows" if e.brow_tilt > 0.35 else
        "raised brows" if e.brow_raise > 0.5 else
        "relaxed brows"
    )  # fmt: skip
    eyes = "wide eyes" if e.eye_open > 0.5 else "narrow eyes" if e.eye_open < -0.3 else "open eyes"
    gesture = (
        "a broad smile" if e.smile > 0.6 else
        "a slight smile" if e.smile > 0.25 else
        "pressed lips" if e.lip_press > 0.5 else
        "an open mouth" if e.mouth_open > 0.4 else
        "a turned-down mouth" if e.smile < -0.35 else
        "a closed mouth"
    )  # fmt: skip
    extras = [f"{person.style} {person.hair} hair", f"{person.skin} skin"]
    extras += ["glasses"] * person.glasses + [{"full": "a full beard"}.get(person.beard, person.beard)] * (
        person.beard != "none"
    )
    return f"a photo of a person with {brows}, {eyes} and {gesture}, {', '.join(extras)}"


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in color)
    return red, green, blue


def _blend(a: Color, b: Color, share: float) -> Color:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _band(x: np.ndarray, above: np.ndarray, below: np.ndarray) -> list[tuple[float, float]]:
    """The closed outline of what lies between two curves over the same x."""
    return _points(np.concatenate([x, x[::-1]]), np.concatenate([above, below[::-1]]))


def _bump(x: float, y: float, width: float, height: float, size: tuple[int, int] = CANVAS) -> np.ndarray:
    """A soft spot, [H, W]: the outer product of two Gaussians."""
    across = np.exp(-(((np.arange(size[0]) - x) / width) ** 2))
    down = np.exp(-(((np.arange(size[1]) - y) / height) ** 2))
    return down[:, None] * across


def _outline(person: Person) -> np.ndarray:
    """The face's outline on the canvas, [P, 2]: a superellipse that narrows towards the chin."""
    t = np.concatenate([np.linspace(-1, 1, 40), np.linspace(1, -1, 40)])
    power = np.where(t < 0, 2.3, 2.0 + 0.7 * person.jaw)
    half = HALF_WIDTH * person.width * (1 - np.abs(t) ** power) ** (1 / power)
    half = half * (1 - (0.26 - 0.14 * person.jaw) * np.maximum(t, 0) ** 1.5)
    side = np.repeat([-1, 1], 40)
    return np.stack([CENTER_X + side * half, HEAD_Y + HEAD_HALF * t], 1)


def _skin(person: Person, light: float) -> Image.Image:
    """The shaded skin of the whole canvas; the outline cuts the face out of it."""
    y, x = np.mgrid[: CANVAS[1], : CANVAS[0]].astype(np.float32)
    across, down = (x - CENTER_X) / HALF_WIDTH, (y - HEAD_Y) / HEAD_HALF
    tone = 1.03 + 0.13 * light * across - 0.05 * down - 0.17 * (across**2 + 0.8 * down**2) ** 2
    for side in (-1, 1):
        eye = CENTER_X + side * EYE_X * person.spacing
        tone -= 0.17 * _bump(eye - side * 4, EYE_Y - 5, 19, 11)  # the socket
        tone -= 0.06 * _bump(eye, EYE_Y + 13, 15, 5)
        tone += 0.07 * _bump(CENTER_X + side * 33, NOSE_Y - 6, 14, 12)  # the cheekbone
        tone -= 0.07 * _bump(CENTER_X + side * 46, MOUTH_Y - 4, 12, 22)
    tone += 0.07 * _bump(CENTER_X, 104, 34, 16)
    tone -= 0.13 * _bump(CENTER_X, MOUTH_Y + 15, 15, 4) - 0.06 * _bump(CENTER_X, CHIN_Y - 14, 14, 8)
    skin = tone[..., None] * np.array(SKINS[person.skin], np.float32)  # [H, W, 3]
    blush = _bump(CENTER_X - 34, NOSE_Y + 2, 17, 13) + _bump(CENTER_X + 34, NOSE_Y + 2, 17, 13)
    skin += blush[..., None] * np.array([9.0, -5.0, -4.0])
    strength = {"none": 0.0, "stubble": 0.3, "full": 0.88, "moustache": 0.0}[person.beard]
    cover = np.clip((y - 178 - 20 * np.sqrt(np.maximum(1 - np.abs(across), 0))) / 10, 0, 1)
    cover = strength * cover * (1 - _bump(CENTER_X, MOUTH_Y + 2, 22, 9))
    if person.beard != "none":
        moustache = strength or 0.85
        cover = np.maximum(cover, moustache * _bump(CENTER_X, MOUTH_Y - 10, 22, 5))
    skin += cover[..., None] * (np.array(HAIRS[person.hair]) * 1.1 - skin)
    skin += np.random.default_rng(0).normal(0, 2.0, CANVAS[::-1])[..., None]  # pores: one fixed texture
    return Image.fromarray(np.clip(skin, 0, 255).astype(np.uint8))


@lru_cache(maxsize=64)  # painting one takes as long as a clip's frames
def _head(person: Person, light: float) -> tuple[Image.Image, Image.Image]:
    """Everything of a head that does not move, RGB, and its mask, L."""
    hair, skin = HAIRS[person.hair], SKINS[person.skin]
    head, mask = Image.new("RGB", CANVAS, hair), Image.new("L", CANVAS)
    paint, cut = ImageDraw.Draw(head), ImageDraw.Draw(mask)
    wide = HALF_WIDTH * person.width

    def ellipse(x: float, y: float, rx: float, ry: float, color: Color) -> None:
        paint.ellipse((x - rx, y - ry, x + rx, y + ry), color)
        cut.ellipse((x - rx, y - ry, x + rx, y + ry), 255)

    if person.style in ("long", "bobbed"):
        bottom = 296 if person.style == "long" else 232
        box = (CENTER_X - wide - 17, 52, CENTER_X + wide + 17, bottom)
        paint.rounded_rectangle(box, 62, _shade(hair, 0.75))
        cut.rounded_rectangle(box, 62, 255)
        cut.rectangle((CENTER_X - 34, CHIN_Y - 40, CENTER_X + 34, CANVAS[1]), 0)  # the neck
    if person.style == "tied":
        ellipse(CENTER_X + 8, 52, 26, 22, _shade(hair, 0.85))
    for side in (-1, 1):
        ellipse(CENTER_X + side * (wide + 2), EYE_Y + 10, 10, 19, _shade(skin, 0.86 + 0.1 * side * light))
        ellipse(CENTER_X + side * (wide + 3), EYE_Y + 10, 5, 12, _shade(skin, 0.68))
    outline = [tuple(point) for point in _outline(person).tolist()]
    face = Image.new("L", CANVAS)
    ImageDraw.Draw(face).polygon(outline, 255)
    head.paste(_skin(person, light), mask=face)
    cut.polygon(outline, 255)
    _front_hair(person, paint, cut, light)
    return head, mask


def _front_hair(person: Person, paint: ImageDraw.ImageDraw, cut: ImageDraw.ImageDraw, light: float) -> None:
    x = np.linspace(-1, 1, 41)
    volume = {"curly": 16, "receding": 2}.get(person.style, 8)
    outer_x = CENTER_X + (HALF_WIDTH * person.width + 0.6 * volume) * x
    outer_y = EYE_Y + 2 - (HEAD_HALF - 2 + volume) * (1 - np.abs(x) ** 2.3) ** (1 / 2.3)
    line = {
        "short": 92 + 16 * x**2,
        "side-parted": 96 - 16 * np.tanh(4 * (x - 0.35)) + 8 * x**2,
        "fringed": 109 + 3 * np.cos(14 * x),
        "curly": 95 + 10 * x**2 + 3 * np.sin(17 * x),
        "receding": 76 + 14 * x**2,
        "long": 82 + 24 * np.abs(x) ** 0.8,
        "bobbed": 104 + 6 * x,
        "tied": 86 + 18 * x**2,
    }[person.style]
    sides = 140 if person.style != "receding" else 128
    line = np.maximum(line + (sides - line) * np.abs(x) ** 9, outer_y)
    line_x = CENTER_X + (outer_x - CENTER_X) * 0.985
    hair = HAIRS[person.hair]
    polygon = _points(np.concatenate([outer_x, line_x[::-1]]), np.concatenate([outer_y, line[::-1]]))
    paint.polygon(polygon, hair)
    cut.polygon(polygon, 255)
    if person.style == "curly":
        for k, (cx, cy) in enumerate(zip(outer_x[2:-2:3], outer_y[2:-2:3], strict=True)):
            box = (cx - 11, cy - 9, cx + 11, cy + 13)
            paint.ellipse(box, _shade(hair, 1.0 + 0.15 * (k % 3)))
            cut.ellipse(box, 255)
    for k, share in enumerate(np.linspace(0.12, 0.88, 9)):  # strands, lighter on the lit side
        strand = _points(outer_x + share * (line_x - outer_x), outer_y + share * (line - outer_y))
        color = _blend(hair, (255, 240, 220), 0.05 + 0.10 * (k % 3 == 1))
        paint.line(strand[3:24] if light < 0 else strand[17:-3], color, 2)
        paint.line(strand[4:-4], _shade(hair, 0.8), 1)


def _nose(person: Person, light: float) -> Image.Image:
    """The nose's shading, RGBA, 64 x 80; its tip is at (32, 58)."""
    size = (64, 80)
    width = 11 * person.nose
    lit_side = np.sign(light or 1)
    shadow = 0.34 * _bump(32 - 8 * lit_side, 40, 5, 24, size) + 0.5 * _bump(32, 69, width, 4, size)
    shadow += 0.15 * _bump(32 + 8 * lit_side, 44, 4, 20, size)
    for side in (-1, 1):
        shadow += 0.24 * _bump(32 + side * (width + 2), 61, 3, 6, size)  # the wing
        shadow += 0.7 * _bump(32 + side * 0.55 * width, 66, 3.6, 2.2, size)  # the nostril
    shine = 0.30 * _bump(32 + 2 * light, 55, 6, 7, size) + 0.22 * _bump(32 + 2 * light, 26, 4, 24, size)
    lit = shine > shadow
    color = np.where(lit[..., None], (255, 246, 236), _shade(SKINS[person.skin], 0.42))
    sprite = np.dstack([color, 255 * np.clip(np.abs(shine - shadow), 0, 1)])
    return Image.fromarray(sprite.astype(np.uint8))


def _features(canvas: Image.Image, person: Person, nose: Image.Image, pose: Pose, e: Expression) -> np.ndarray:
    """Draws all that moves inside the face; returns the landmarks on the canvas, [5, 2]."""
    paint = ImageDraw.Draw(canvas)
    skin, hair = SKINS[person.skin], HAIRS[person.hair]
    crease = _shade(skin, 0.66)
    shift_x, shift_y = CENTER_X + 7 * pose.yaw, 5 * pose.pitch
    tip = (CENTER_X + 11 * pose.yaw, NOSE_Y + 8 * pose.pitch)
    canvas.paste(nose, (round(tip[0]) - 32, round(tip[1]) - 58), nose)

    if e.brow_raise > 0.4:  # lines on the forehead
        for row in (104, 112):
            x = np.linspace(-26, 26, 9)
            line = _points(shift_x + x, row - 4 * e.brow_raise + shift_y + 0.004 * x**2)
            paint.line(line, _blend(skin, crease, min(1.0, e.brow_raise - 0.2) * 0.7), 2)
    if e.brow_knit > 0.3:  # folds between the brows
        for side in (-1, 1):
            top = (shift_x + side * 6, BROW_Y - 10 + shift_y)
            bottom = (shift_x + side * 4, BROW_Y + 5 + shift_y)
            paint.line((top, bottom), _blend(skin, crease, min(1.0, e.brow_knit)), 2)
    eyes = []
    for side in (-1, 1):
        center = (shift_x + side * EYE_X * person.spacing * (1 - 0.06 * side * pose.yaw), EYE_Y + shift_y)
        _eye(canvas, paint, person, center, side, pose, e)
        _brow(paint, person, center[0], shift_y, side, e, _shade(hair, 0.85))
        eyes.append(center)
        if e.smile > 0.2:  # the cheek lifts
            x = np.linspace(-1, 1, 9)
            lift = _points(center[0] + 15 * x, center[1] + 17 - 3 * e.smile - 4 * (1 - x**2) * -1)
            paint.line(lift, _blend(skin, crease, 0.6 * min(1.0, e.smile)), 2)
    corners = _mouth(paint, person, (shift_x, MOUTH_Y + shift_y), e)
    fold = min(1.0, 0.25 + 0.7 * abs(e.smile))
    for side, corner in zip((-1, 1), corners, strict=True):
        start = (tip[0] + side * 15 * person.nose, tip[1] + 3)
        middle = (0.35 * start[0] + 0.65 * corner[0] + side * 7, 0.45 * start[1] + 0.55 * corner[1])
        end = (corner[0] + side * 7, corner[1] + 2)
        if person.beard != "full":
            paint.line((start, middle, end), _blend(skin, crease, 0.75 * fold), 2, joint="curve")
    if person.glasses:
        _glasses(paint, eyes)
    return np.array([*eyes, tip, *corners])


def _eye(
    canvas: Image.Image,
    paint: ImageDraw.ImageDraw,
    person: Person,
    center: tuple[float, float],
    side: int,
    pose: Pose,
    e: Expression,
) -> None:
    half = 15.5 * person.eyes
    openness = max(0.0, 1 - pose.blink)
    upper = max(0.6, 8.2 * person.eyes * (1 + 0.6 * e.eye_open)) * openness
    lower = 5.0 * person.eyes * (1 + 0.25 * e.eye_open - 0.45 * max(e.smile, 0.0))
    lower = lower * openness + 2 * (1 - openness)
    x = np.linspace(-1, 1, 15)
    droop = side * 2.2 * max(e.brow_tilt, 0.0) * x - side * 1.2 * x  # outer corners sink in grief
    top = droop - upper * (1 - x**2) ** 0.75
    bottom = droop + lower * (1 - x**2)
    grief_or_anger = 2.0 * min(e.brow_tilt, 0.0) * side * x  # the lowered brow presses the inner lid down
    top = np.minimum(top - grief_or_anger * (1 - x**2) ** 0.5, bottom)

    size, middle = (44, 48), (22, 24)
    patch, mask = Image.new("RGB", size, (236, 232, 228)), Image.new("L", size)
    ImageDraw.Draw(mask).polygon(_band(22 + half * x, 24 + top, 24 + bottom), 255)
    inside = ImageDraw.Draw(patch)
    inside.rectangle((0, 0, 44, 24 - upper * 0.55), (204, 198, 196))  # the lid's shadow on the white
    gaze = (middle[0] + 4 * pose.yaw, middle[1] - 1 + 4.5 * e.gaze_down)
    for radius, color in ((8.2, _shade(person.iris, 0.6)), (7.0, person.iris), (3.6, (12, 10, 12))):
        inside.ellipse((gaze[0] - radius, gaze[1] - radius, gaze[0] + radius, gaze[1] + radius), color)
    inside.ellipse((gaze[0] + 0.5, gaze[1] - 5, gaze[0] + 4, gaze[1] - 1.5), (255, 255, 255))
    lid = _band(center[0] + half * 1.06 * x, center[1] + top - 5.5, center[1] + bottom + 1)
    paint.polygon(lid, _shade(SKINS[person.skin], 0.84))
    canvas.paste(patch, (round(center[0]) - 22, round(center[1]) - 24), mask)
    paint.line(_points(center[0] + half * x, center[1] + top), (34, 24, 24), 3, joint="curve")
    crease = _points(center[0] + half * 1.05 * x[2:-2], center[1] + top[2:-2] - 6)
    paint.line(crease, _shade(SKINS[person.skin], 0.62), 1)
    paint.line(_points(center[0] + half * x, center[1] + bottom), _shade(SKINS[person.skin], 0.55), 1)


def _brow(
    paint: ImageDraw.ImageDraw, person: Person, eye_x: float, shift_y: float, side: int, e: Expression, color: Color
) -> None:
    t = np.linspace(0, 1, 9)  # from the nose outwards
    x = eye_x + side * (-17 - 5 * e.brow_knit + (38 + 4 * e.brow_knit) * t)
    height = BROW_Y + person.brow_height + shift_y - 11 * e.brow_raise
    y = height - 4.5 * np.sin(np.pi * t**1.3) * (1 + 0.4 * e.brow_raise) + 3 * t
    y = y - e.brow_tilt * (10 * (1 - t) ** 1.3 - 4.5 * t)
    thick = person.brows * (3.9 - 2.6 * t**2)
    paint.polygon(_band(x, y - thick, y + thick), color)


def _mouth(
    paint: ImageDraw.ImageDraw, person: Person, center: tuple[float, float], e: Expression
) -> list[tuple[float, float]]:
    """Returns the left and the right corner."""
    x = np.linspace(-1, 1, 21)
    smile, opening = e.smile, 17 * max(e.mouth_open, 0.0)
    grin = max(smile, 0.0)
    half = 21 * person.mouth * (1 + 0.34 * grin - 0.10 * e.lip_press - 0.16 * e.mouth_open * (1 - grin))
    arch = np.maximum(1 - x**2, 0)
    line = center[1] - 9.5 * smile * x**2 + 4.0 * smile
    press = 1 - 0.6 * np.clip(e.lip_press, 0, 1)
    upper = line - 0.18 * opening * arch**0.6
    lower = line + 0.82 * opening * arch**0.6
    bow = 1 - 0.3 * np.exp(-((x / 0.16) ** 2))
    top = upper - 5.0 * person.lips * press * arch**0.7 * bow
    bottom = lower + 6.5 * person.lips * press * arch**0.8
    skin = SKINS[person.skin]
    lips = _blend(_shade(skin, 0.78), (176, 62, 66), 0.45)
    x = center[0] + half * x

    def region(above: np.ndarray, below: np.ndarray, color: Color) -> None:
        paint.polygon(_band(x, above, below), color)

    region(top, upper + 0.5, _shade(lips, 0.86))
    region(lower - 0.5, bottom, lips)
    paint.line(_points(x[7:14], (0.45 * lower + 0.55 * bottom)[7:14]), _blend(lips, (255, 226, 220), 0.4), 2)
    if opening > 1.5:
        region(upper, lower, (62, 20, 22))
        if opening > 8:  # the tongue
            region(np.maximum(upper, lower - 0.3 * opening * arch), lower, (164, 72, 74))
        teeth = min(6.0, (0.30 + 0.45 * grin + 0.3 * max(-e.brow_tilt, 0.0)) * opening)
        region(upper, np.minimum(upper + teeth * arch**0.4, lower), (238, 234, 226))
    paint.line(_points(x, upper), _shade(lips, 0.45), 2, joint="curve")
    return [(x[0], line[0]), (x[-1], line[-1])]


def _glasses(paint: ImageDraw.ImageDraw, eyes: list[tuple[float, float]]) -> None:
    frame = (40, 38, 44)
    for side, (x, y) in zip((-1, 1), eyes, strict=True):
        paint.rounded_rectangle((x - 22, y - 15, x + 22, y + 18), 12, outline=frame, width=3)
        paint.line((x + side * 22, y - 4, x + side * 36, y - 8), frame, 3)
    paint.line((eyes[0][0] + 22, eyes[0][1] - 3, eyes[1][0] - 22, eyes[1][1] - 3), frame, 3)
