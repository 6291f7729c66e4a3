"""Clips and data sets: what every layout is read into and every later stage works on."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_jax.data.labels import is_missing
from mer_jax.defaults import MODALITIES

if TYPE_CHECKING:
    from mer_jax.data.prepared import Record

SPLITS = ("train", "unlabeled", "test")
NO_TRANSCRIPT = "no transcript"
NOT_VALID = "not valid for this clip"  # a modality that is someone else's, or counts for nothing
INTENDED = "on purpose"  # behind the reasons of the sample's problems


def unknown_modalities(names: str, known: Sequence[str]) -> str:
    """What is wrong with "+"-joined modalities, where some are known; empty if nothing is."""
    unknown = [name for name in names.split("+") if names and name not in known]
    return f"unknown {unknown[0]!r}; known: {'+'.join(known)}" if unknown else ""


def valid_modalities(cell: str, known: Collection[str] | None = None) -> tuple[str, ...] | None:
    """The "+"-joined modalities that count for a clip; () of "none"; None, for all, of "all" and what is missing.

    known: those that there are, in the order that they are to have; None: whatever stands in the cell.

    Raises:
        ValueError: one is not `known`; the message names them.
    """
    names = [name.strip() for name in cell.split("+")]
    if names[0].casefold() == "none" and len(names) == 1:
        return ()
    if (names[0].casefold() == "all" and len(names) == 1) or is_missing(cell):
        return None
    if known is None:
        return tuple(names)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown modality {unknown[0]!r}; known: {'+'.join(known)}, all, none")
    return tuple(name for name in known if name in names)


def wrong_modalities(cell: str, known: Collection[str]) -> str:
    """What `valid_modalities` has against a setting; empty if nothing."""
    try:
        valid_modalities(cell, known)
    except ValueError as error:
        return str(error)
    return ""


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
    modalities: tuple[str, ...] | None = None  # those that count, see `showing`; None: all

    def hides(self, modality: str) -> bool:
        """Whether a modality does not count, whatever the clip's files hold."""
        return self.modalities is not None and modality not in self.modalities

    def check(self, modality: str) -> None:
        """Raises Absent for a modality that does not count."""
        if self.hides(modality):
            raise Absent(NOT_VALID)

    def showing(self, modalities: tuple[str, ...] | None) -> "Clip":
        """The clip with none but these modalities, of those that count."""
        if modalities is None:
            return self
        clip = replace(self, modalities=tuple(name for name in modalities if not self.hides(name)))
        if clip.hides("image"):
            clip = replace(clip, faces=None, no_faces=NOT_VALID)
        if clip.hides("text"):
            clip = replace(clip, transcript="", no_transcript=NOT_VALID)
        return clip


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
        """Of what folds and pseudo-labels go by: the clips, their splits, labels, groups and what counts of them."""
        clips: list[Any] = [(clip.name, clip.split, clip.label, clip.group) for clip in self.clips]
        if any(clip.modalities is not None for clip in self.clips):
            clips.append([clip.modalities for clip in self.clips])
        return hashlib.blake2b(json.dumps(clips, ensure_ascii=False).encode(), digest_size=8).hexdigest()

    def split(self, name: str) -> list[int]:
        """Positions in `clips` of one split."""
        return [i for i, clip in enumerate(self.clips) if clip.split == name]

    @property
    def candidate_modalities(self) -> tuple[str, ...] | None:
        """Those that count for any clip of the splits that are predicted; None where all count for one of them."""
        own = [clip.modalities for clip in self.clips if clip.split != "train"]
        if not own or None in own:
            return None
        return tuple(dict.fromkeys(name for modalities in own for name in modalities or ()))

    def not_valid(self, modalities: Collection[str] = MODALITIES) -> dict[str, dict[str, int]]:
        """Modality -> split -> number of clips for which it does not count, where there are any."""
        counters = {name: Counter(clip.split for clip in self.clips if clip.hides(name)) for name in modalities}
        return {name: dict(counter) for name, counter in counters.items() if counter}

    def counts(self) -> dict[str, int]:
        """Number of clips in each split."""
        counter = Counter(clip.split for clip in self.clips)
        return {split: counter[split] for split in SPLITS}

    def classes(self) -> dict[str, dict[str, int]]:
        """Number of clips of each label in each split, where labels are known."""
        counter = Counter((clip.split, clip.label or self.truth.get(clip.name)) for clip in self.clips)
        return {split: {label: counter[split, label] for label in self.labels} for split in SPLITS}
