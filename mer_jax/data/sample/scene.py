"""What a whole frame shows beside the face: room, light, clothes, posture and a hand."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mer_jax.data.sample.persons import Color

FRAME = (160, 128)  # width, height in pixels; both even, as H.264's 4:2:0 wants
ROOMS = ("wall", "window", "shelf", "lamp")
GESTURES = ("none", "fist", "open palm", "hand on cheek", "hand at chin", "thumb up")
DOUBLE = (2 * FRAME[0], 2 * FRAME[1])  # everything is drawn at twice the size


@dataclass(frozen=True)
class Scene:
    """A room and a bearing. `warmth`, `brightness` in [-1, 1]; `shoulders` 0 (hanging) to 1 (raised)."""

    room: str = "wall"
    hue: Color = (150, 150, 156)
    warmth: float = 0.0
    brightness: float = 0.0
    shoulders: float = 0.3
    gesture: str = "none"
    shirt: Color = (70, 86, 120)
    light: float = 0.5  # side the light comes from, -1 (left) to 1
    texture: int = 0  # seed of the room's furniture

    def backdrop(self, skin: Color) -> Image.Image:
        """The room with the body before it, RGB, of size `FRAME`; the head is pasted on top."""
        image = self.room_only().resize(DOUBLE)
        paint = ImageDraw.Draw(image)
        middle, top = DOUBLE[0] // 2, 232 - 26 * self.shoulders
        shadow = (int(skin[0] * 0.72), int(skin[1] * 0.7), int(skin[2] * 0.7))
        slope = 34 - 22 * self.shoulders
        body = [
            (middle - 148, 260), (middle - 118, top + slope), (middle - 48, top), (middle + 48, top),
            (middle + 118, top + slope), (middle + 148, 260),
        ]  # fmt: skip
        neck = [(middle - 31, 180), (middle + 31, 180), (middle + 38, 260), (middle - 38, 260)]
        paint.polygon(neck, shadow)
        paint.polygon(body, self.shirt)
        dark = (self.shirt[0] * 2 // 3, self.shirt[1] * 2 // 3, self.shirt[2] * 2 // 3)
        paint.polygon([(middle - 34, top - 4), (middle + 34, top - 4), (middle, top + 26)], shadow)
        paint.line([(middle - 40, top - 2), (middle, top + 28), (middle + 40, top - 2)], dark, 6)
        for side in (-1, 1):
            paint.line([(middle + side * 96, 260), (middle + side * 92, top + slope + 8)], dark, 3)
        return image.reduce(2)

    def room_only(self) -> Image.Image:
        """The empty room, RGB, of size `FRAME`."""
        rng = np.random.default_rng(self.texture)
        tint = np.array([1 + 0.22 * self.warmth, 1.0, 1 - 0.22 * self.warmth]) * (1 + 0.38 * self.brightness)
        base = np.array(self.hue) * tint
        ramp = np.linspace(1.1, 0.85, FRAME[1])[:, None] + 0.12 * self.light * np.linspace(-1, 1, FRAME[0])
        image = Image.fromarray(np.clip(ramp[..., None] * base, 0, 255).astype(np.uint8))
        paint = ImageDraw.Draw(image)

        def tone(factor: float) -> Color:
            red, green, blue = np.clip(base * factor, 0, 255).astype(int).tolist()
            return red, green, blue

        if self.room == "window":
            x = int(rng.integers(2, 20)) if rng.random() < 0.5 else int(rng.integers(100, 118))
            paint.rectangle((x, 8, x + 40, 78), tone(1.35), tone(0.6), 3)
            paint.line((x + 20, 8, x + 20, 78), tone(0.6), 2)
        elif self.room == "shelf":
            for row in (30, 66, 102):
                x = 0
                while x < FRAME[0]:
                    width, height = int(rng.integers(4, 9)), int(rng.integers(16, 27))
                    paint.rectangle((x, row - height, x + width - 1, row), tone(rng.uniform(0.5, 1.2)))
                    x += width
                paint.rectangle((0, row, FRAME[0], row + 3), tone(0.5))
        elif self.room == "lamp":
            for _ in range(7):
                left, top, size = rng.uniform(0, FRAME[0]), rng.uniform(0, 80), rng.uniform(10, 28)
                paint.ellipse((left, top, left + size, top + size), tone(rng.uniform(1.05, 1.4)))
        image = image.filter(ImageFilter.GaussianBlur(1.6))  # out of the camera's focus
        grain = rng.normal(0, 2.0, (FRAME[1], FRAME[0], 1))
        return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))

    def hand(self, skin: Color) -> tuple[Image.Image, tuple[int, int]] | None:
        """The gesture's hand, RGBA, and where its upper left corner rests in the frame."""
        if self.gesture == "none":
            return None
        image = Image.new("RGBA", (96, 136))
        paint = ImageDraw.Draw(image)
        dark = (int(skin[0] * 0.7), int(skin[1] * 0.66), int(skin[2] * 0.66))
        fair = (int(skin[0] * 0.94), int(skin[1] * 0.92), int(skin[2] * 0.92))
        paint.polygon([(28, 74), (68, 74), (76, 136), (20, 136)], self.shirt)
        paint.rectangle((34, 56, 62, 84), dark)
        paint.rounded_rectangle((24, 26, 72, 74), 14, fair, dark, 2)
        if self.gesture == "open palm":
            for finger, (x, y) in enumerate([(26, 8), (38, 0), (51, 1), (63, 9)]):
                paint.rounded_rectangle((x - 2, y, x + 9, 40), 5, fair, dark, 2 if finger else 1)
            paint.rounded_rectangle((8, 34, 32, 46), 6, fair, dark, 2)
        elif self.gesture == "thumb up":
            paint.rounded_rectangle((28, 2, 42, 40), 7, fair, dark, 2)
        for row in range(3) if self.gesture != "open palm" else ():  # bent fingers
            paint.line((36, 38 + 11 * row, 70, 38 + 11 * row), dark, 2)
        spot = {
            "fist": (112, 72), "open palm": (112, 64), "hand on cheek": (96, 66), "hand at chin": (56, 96),
            "thumb up": (110, 70),
        }[self.gesture]  # fmt: skip
        return image.reduce(2), spot
