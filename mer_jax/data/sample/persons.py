"""The cast of the bundled sample: how each drawn person looks and how the same person sounds."""

from dataclasses import dataclass

import numpy as np

Color = tuple[int, int, int]

SKINS: dict[str, Color] = {
    "light": (244, 211, 186),
    "fair": (232, 190, 160),
    "olive": (212, 168, 132),
    "tan": (190, 142, 106),
    "brown": (150, 104, 74),
    "dark": (108, 74, 54),
}
HAIRS: dict[str, Color] = {
    "black": (30, 26, 28),
    "dark brown": (62, 42, 32),
    "brown": (104, 70, 44),
    "blond": (196, 160, 96),
    "grey": (146, 144, 146),
}
STYLES = ("short", "side-parted", "fringed", "curly", "receding", "long", "bobbed", "tied")
IRISES: tuple[Color, ...] = ((70, 46, 30), (48, 34, 26), (84, 104, 120), (78, 92, 58))
BEARDS = ("none", "stubble", "full", "moustache")


@dataclass(frozen=True)
class Speaker:
    """A voice at rest: pitch in Hz, vocal tract scale (1 = adult male), spectral tilt in dB per octave."""

    pitch: float
    formants: float
    tilt: float
    breath: float


@dataclass(frozen=True)
class Person:
    """A face at rest. Sizes are factors around 1; colours are keys of `SKINS` and `HAIRS`."""

    skin: str
    hair: str
    style: str
    beard: str
    glasses: bool
    width: float
    jaw: float
    eyes: float
    spacing: float
    brows: float
    brow_height: float
    nose: float
    lips: float
    mouth: float
    iris: Color
    speaker: Speaker


def random_person(rng: np.random.Generator) -> Person:
    """Draws one person; looks and voice go together as far as sex makes them."""
    female = bool(rng.random() < 0.5)
    style = rng.choice(STYLES[2:], p=(0.2, 0.1, 0.0, 0.3, 0.2, 0.2)) if female else rng.choice(STYLES[:5])
    return Person(
        skin=str(rng.choice(list(SKINS))),
        hair=str(rng.choice(list(HAIRS), p=(0.4, 0.25, 0.15, 0.1, 0.1))),
        style=str(style),
        beard="none" if female else str(rng.choice(BEARDS, p=(0.55, 0.2, 0.15, 0.1))),
        glasses=bool(rng.random() < 0.25),
        width=rng.uniform(0.92, 1.08) - 0.03 * female,
        jaw=rng.uniform(0.2, 0.6) if female else rng.uniform(0.4, 1.0),
        eyes=rng.uniform(0.9, 1.12) + 0.06 * female,
        spacing=rng.uniform(0.94, 1.06),
        brows=rng.uniform(0.6, 0.9) if female else rng.uniform(0.85, 1.3),
        brow_height=rng.uniform(-3.0, 3.0),
        nose=rng.uniform(0.85, 1.2),
        lips=rng.uniform(0.9, 1.35) if female else rng.uniform(0.75, 1.1),
        mouth=rng.uniform(0.9, 1.1),
        iris=IRISES[rng.choice(4, p=(0.4, 0.35, 0.15, 0.1))],
        speaker=Speaker(
            pitch=rng.uniform(180, 235) if female else rng.uniform(95, 145),
            formants=rng.uniform(1.1, 1.22) if female else rng.uniform(0.94, 1.06),
            tilt=rng.uniform(-2.0, 2.0),
            breath=rng.uniform(0.02, 0.06),
        ),
    )
