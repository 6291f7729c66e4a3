"""Clips and data sets: what every layout is read into and every later stage works on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "unlabeled", "test")


@dataclass(frozen=True)
class Clip:
    """One clip. A path that is None means that the data set has no such file."""

    name: str
    split: str  # one of SPLITS
    media: Path | None = None  # video or sound file
    faces: Path | None = None  # uint8 BGR [T, 112, 112, 3] crops, .npy
    transcript: str = ""  # "" when there is none
    label: str | None = None  # known for the train split alone
    group: str | None = None  # speaker or dialogue that folds must not split
    features: Mapping[str, Path] = field(default_factory=dict)  # modality -> ready-made .npy


@dataclass(frozen=True, order=True)
class Problem:
    """Something about one clip that a reader of the report should know."""

    name: str
    split: str
    modality: str | None  # None: it concerns the clip as a whole
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Clips in a fixed order, their label set, and labels that may be used for scoring only."""

    name: str
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    truth: Mapping[str, str]  # clip name -> label of unlabeled and test clips, where known
    problems: tuple[Problem, ...] = ()

    def split(self, name: str) -> list[int]:
        """Positions in `clips` of one split."""
        return [i for i, clip in enumerate(self.clips) if clip.split == name]

    def counts(self) -> dict[str, int]:
        """Number of clips in each split."""
        counter = Counter(clip.split for clip in self.clips)
        return {split: counter[split] for split in SPLITS}

    def classes(self) -> dict[str, dict[str, int]]:
        """Number of clips of each label in each split, where labels are known."""
        known = Counter((clip.split, clip.label or self.truth.get(clip.name)) for clip in self.clips)
        return {split: {label: known[split, label] for label in self.labels} for split in SPLITS}
