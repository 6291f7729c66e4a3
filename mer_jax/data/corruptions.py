"""Corrupted inputs, as in MER-NOISE: to test robustness with, or to train for it.

Test clips are corrupted themselves. Training clips stay as they are, and corrupted copies train beside them, so that
whatever a clip is scored on is clean. What happens depends on the seed, the clip's name and the occasion alone, so that
a second run corrupts the same clips alike.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from mer_jax.data.clips import Absent, Clip, Dataset
from mer_jax.runtime.settings import section, setting

DROPPED = "dropped on purpose"


def wrong_range(bounds: tuple[float, ...]) -> str:
    """What is wrong with `snr_db`; empty if nothing is."""
    return "" if len(bounds) in (0, 2) and list(bounds) == sorted(bounds) else "expected () or (lowest, highest)"


@dataclass(frozen=True)
class CorruptionSettings:
    """What happens to the test clips, as in MER-NOISE: `config.corruptions.evaluation`."""

    probability: float = setting(0.0, least=0, most=1)  # that a clip, or a copy of one, is corrupted at all
    snr_db: tuple[float, ...] = setting((5.0, 10.0), wrong=wrong_range)  # range of the noise in the sound; (): none
    blur: float = setting(0.0, least=0, most=1)  # standard deviation as a share of a frame's shorter side
    downsample: float = setting(1.0, least=1, most=99)  # factor by which frames are shrunk and enlarged again
    drop: str = setting("")  # "+"-joined modalities that a corrupted clip may lose
    drop_probability: float = setting(0.5, least=0, most=1)


@dataclass(frozen=True)
class TrainingCorruptionSettings(CorruptionSettings):
    """What happens to copies of the labelled clips, to train beside them; prompts train on such clips alone."""

    copies: int = setting(1, least=0)  # of each clip


@dataclass(frozen=True)
class CorruptionsSettings:
    """`config.corruptions`."""

    training: TrainingCorruptionSettings = section(TrainingCorruptionSettings)
    evaluation: CorruptionSettings = section(CorruptionSettings)


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


def corrupt(dataset: Dataset, settings: CorruptionSettings, seed: int) -> Dataset:
    """Marks test clips to be corrupted when they are read."""
    clips = tuple(corrupted(clip, settings, seed) if clip.split == "test" else clip for clip in dataset.clips)
    return replace(dataset, clips=clips)


def corrupted_copies(
    clips: Sequence[Clip], settings: TrainingCorruptionSettings, seed: int
) -> tuple[list[Clip], np.ndarray]:
    """At most `copies` corrupted copies of each clip, and the positions [K] of their originals in `clips`."""
    drawn = [
        (corrupted(clip, settings, seed, f" copy {number}"), position)
        for position, clip in enumerate(clips)
        for number in range(settings.copies)
    ]
    drawn = [(copy, position) for copy, position in drawn if copy.corruption]
    return [copy for copy, _ in drawn], np.array([position for _, position in drawn], int)


def corrupted(clip: Clip, settings: CorruptionSettings, seed: int, occasion: str = "") -> Clip:
    """The clip as it is read on one occasion: with `probability` corrupted, else as it is."""
    rng = np.random.default_rng([seed, zlib.crc32((clip.name + occasion).encode())])
    if rng.random() >= settings.probability:
        return clip
    noise = float(rng.uniform(settings.snr_db[0], settings.snr_db[1])) if settings.snr_db else None
    modalities = settings.drop.split("+") if settings.drop else []
    dropped = tuple(modality for modality in modalities if rng.random() < settings.drop_probability)
    noise_seed = int(rng.integers(2**32))
    return replace(clip, corruption=Corruption(noise_seed, noise, settings.blur, settings.downsample, dropped))
