"""Corrupted inputs, as in MER-NOISE: to test robustness with, or to train for it.

What happens to a clip depends on the seed and its name alone, so that a second run corrupts the same clips alike.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from mer_jax.data.clips import Absent, Clip, Dataset

SPLIT_OF = {"training": "train", "evaluation": "test"}  # key of `config.corruptions` -> split


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
            raise Absent("dropped on purpose")

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


def corrupt(dataset: Dataset, settings: Mapping[str, Any], seed: int) -> Dataset:
    """Marks clips to be corrupted when they are read. settings: `config.corruptions`."""
    chosen = {split: settings[when] for when, split in SPLIT_OF.items()}
    clips = tuple(
        replace(clip, corruption=draw(clip, chosen[clip.split], seed)) if clip.split in chosen else clip
        for clip in dataset.clips
    )
    return replace(dataset, clips=clips)


def draw(clip: Clip, settings: Any, seed: int) -> Corruption | None:
    """What happens to one clip; None for most where `probability` is small."""
    rng = np.random.default_rng([seed, zlib.crc32(clip.name.encode())])
    if rng.random() >= settings["probability"]:
        return None
    noise = float(rng.uniform(*settings["snr_db"])) if settings["snr_db"] else None
    modalities = settings["drop"].split("+") if settings["drop"] else []
    dropped = tuple(modality for modality in modalities if rng.random() < settings["drop_probability"])
    own_seed = int(rng.integers(2**32))
    return Corruption(own_seed, noise, settings["blur"], settings["downsample"], dropped)
