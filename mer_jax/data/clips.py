"""Clips and data sets: what every layout is read into and every later stage works on."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_jax.defaults import MODALITIES

if TYPE_CHECKING:
    from mer_jax.data.prepared import Record

SPLITS = ("train", "unlabeled", "test")
NO_TRANSCRIPT = "no transcript"
INTENDED = "on purpose"  # behind the reasons of the sample's problems


def unknown_modalities(names: str, known: Sequence[str] = MODALITIES) -> str:
    """What is wrong with "+"-joined modalities; empty if nothing is."""
    unknown = [name for name in names.split("+") if names and name not in known]
    return f"unknown {unknown[0]!r}; known: {'+'.join(known)}" if unknown else ""


class Absent(Exception):
    """The clip lacks the modality, or it cannot be read. The message is the reason."""


@dataclass(frozen=True)
class Clip:
    """One clip. A path that is None means that the data set has no such file."""

    name: str
    split: str  # one of SPLITS
    media: Path | None = None  # video or sound file
    faces: Path | None = None  # uint8 BGR [T, 112, 112, 3] crops, .npy; or a folder of aligned images
    cut: bool = False  # whether a run has cut these, and keeps beside them what they are (mer_jax/data/kept_crops.py)
    no_faces: str = "no face"  # why `faces` is None though there is media
    transcript: str = ""  # "" when there is none
    no_transcript: str = NO_TRANSCRIPT  # why there is none
    label: str | None = None  # known for the train split alone
    group: str | None = None  # speaker or dialogue that folds must not split
    features: Mapping[str, Path] = field(default_factory=dict)  # stream -> ready-made .npy
    prepared: "Record | None" = None  # stands for media and faces
    corruption: Any = None  # data.corruptions.Corruption of what is read; None for none
    audio_track: str = ""  # of media: number from 0 or language; "": the one that FFmpeg thinks best


@dataclass(frozen=True, order=True)
class Problem:
    """Something about one clip that a reader of the report should know."""

    name: str
    split: str
    modality: str | None  # None: it concerns the clip as a whole
    reason: str  # what is in parentheses at its end concerns this clip alone


@dataclass(frozen=True)
class Dataset:
    """Clips in a fixed order, their label set, and labels that may be used for scoring only."""

    name: str
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    truth: Mapping[str, str]  # clip name -> label of unlabeled and test clips, where known
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()  # what a user of this data set should know before trusting a score

    @property
    def digest(self) -> str:
        """Of what folds and pseudo-labels go by: the clips, and their splits, labels and groups."""
        clips = [(clip.name, clip.split, clip.label, clip.group) for clip in self.clips]
        return hashlib.blake2b(json.dumps(clips, ensure_ascii=False).encode(), digest_size=8).hexdigest()

    def split(self, name: str) -> list[int]:
        """Positions in `clips` of one split."""
        return [i for i, clip in enumerate(self.clips) if clip.split == name]

    def counts(self) -> dict[str, int]:
        """Number of clips in each split."""
        counter = Counter(clip.split for clip in self.clips)
        return {split: counter[split] for split in SPLITS}

    def classes(self) -> dict[str, dict[str, int]]:
        """Number of clips of each label in each split, where labels are known."""
        counter = Counter((clip.split, clip.label or self.truth.get(clip.name)) for clip in self.clips)
        return {split: {label: counter[split, label] for label in self.labels} for split in SPLITS}
