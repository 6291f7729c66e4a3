"""Corrupted inputs, as in MER-NOISE: to test robustness with, or to train for it.

Test clips are corrupted themselves. Training clips stay as they are, and corrupted copies train beside them, so that
whatever a clip is scored on is clean. What happens depends on the seed, the clip's name and the occasion alone, so that
a second run corrupts the same clips alike.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from mer_jax.data.clips import Absent, Clip, Dataset
from mer_jax.runtime.errors import UsageError

DROPPED = "dropped on purpose"


@dataclass(frozen=True)
class Corruption:
    """What is done to one clip's inputs."""

    seed: int
    snr_db: float | None  # of white noise added to the sound; None: no noise
    blur: float  # standard deviation of a Gaussian, as a share of the frames' shorter side; 0: none
    downsample: float  # frames are shrunk by this factor and enlarged again; 1: not
    dropped: tuple[str, ...]  # modalities

    def check(self, modality: str) -> None:
        """Raises Absent for a dropped modality."""
        if modality in self.dropped:
            raise Absent(DROPPED)

    def sound(self, waveform: np.ndarray) -> np.ndarray:
        """int16 [S] -> int16 [S] with noise, whose power is relative to the whole clip's."""
        self.check("speech")
        if self.snr_db is None or not waveform.size:
            return waveform
        power = np.square(waveform, dtype=np.float64).mean()
        noise = np.random.default_rng(self.seed).standard_normal(waveform.size, np.float32)
        noisy = waveform + noise * np.sqrt(power / 10 ** (self.snr_db / 10)).astype(np.float32)
        return np.clip(np.rint(noisy), -32768, 32767).astype(np.int16)

    def frames(self, frames: np.ndarray, modality: str) -> np.ndarray:
        """uint8 RGB [T, H, W, 3] of `modality` (image or video), the same size afterwards."""
        self.check(modality)
        return np.stack([self._frame(frame) for frame in frames]) if self.blur or self.downsample > 1 else frames

    def _frame(self, frame: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(frame)
        if self.blur:
            picture = picture.filter(ImageFilter.GaussianBlur(self.blur * min(picture.size)))
        if self.downsample > 1:
            width, height = (max(1, round(side / self.downsample)) for side in picture.size)
            small = picture.resize((width, height), Image.Resampling.BOX)
            picture = small.resize(picture.size, Image.Resampling.BILINEAR)
        return np.asarray(picture)


def check_settings(settings: Any, modalities: Sequence[str]) -> None:
    """Raises UsageError for settings (`config.corruptions.evaluation` or `.training`) that mean nothing."""
    wrong = []
    if len(settings["snr_db"]) not in (0, 2) or list(settings["snr_db"]) != sorted(settings["snr_db"]):
        wrong.append(f"snr_db={settings['snr_db']}: expected () or (lowest, highest)")
    unknown = [name for name in settings["drop"].split("+") if name not in ("", *modalities)]
    if unknown:
        wrong.append(f"drop: unknown {', '.join(unknown)}; known: {'+'.join(modalities)}")
    for name, least, most in (("probability", 0, 1), ("drop_probability", 0, 1), ("blur", 0, 1), ("downsample", 1, 99)):
        if not least <= settings[name] <= most:
            wrong.append(f"{name}={settings[name]}: expected {least} to {most}")
    if wrong:
        raise UsageError(f"corruptions: {'; '.join(wrong)}")


def corrupt(dataset: Dataset, settings: Any, seed: int) -> Dataset:
    """Marks test clips to be corrupted when they are read. settings: `config.corruptions.evaluation`."""
    clips = tuple(corrupted(clip, settings, seed) if clip.split == "test" else clip for clip in dataset.clips)
    return replace(dataset, clips=clips)


def corrupted_copies(clips: Sequence[Clip], settings: Any, seed: int) -> tuple[list[Clip], np.ndarray]:
    """At most `copies` corrupted copies of each clip, and the positions [K] of their originals in `clips`.

    settings: `config.corruptions.training`.
    """
    drawn = [
        (corrupted(clip, settings, seed, f" copy {number}"), position)
        for position, clip in enumerate(clips)
        for number in range(settings["copies"])
    ]
    drawn = [(copy, position) for copy, position in drawn if copy.corruption]
    return [copy for copy, _ in drawn], np.array([position for _, position in drawn], int)


def corrupted(clip: Clip, settings: Any, seed: int, occasion: str = "") -> Clip:
    """The clip as it is read on one occasion: with `probability` corrupted, else as it is."""
    rng = np.random.default_rng([seed, zlib.crc32((clip.name + occasion).encode())])
    if rng.random() >= settings["probability"]:
        return clip
    noise = float(rng.uniform(*settings["snr_db"])) if settings["snr_db"] else None
    modalities = settings["drop"].split("+") if settings["drop"] else []
    dropped = tuple(modality for modality in modalities if rng.random() < settings["drop_probability"])
    noise_seed = int(rng.integers(2**32))
    return replace(clip, corruption=Corruption(noise_seed, noise, settings["blur"], settings["downsample"], dropped))
