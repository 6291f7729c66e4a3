"""Class-balanced self-training (Chen et al. 2023; paper, section 3.4): which clips to trust next, round by round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from mer_jax.runtime.hosts import in_step
from mer_jax.runtime.kept import digest_of, keep, read_kept, usable
from mer_jax.self_training_settings import SelfTrainingSettings


@dataclass(frozen=True)
class PseudoLabels:
    """n unlabelled clips with the labels they train under."""

    indices: np.ndarray  # [n] int64, positions among the unlabelled clips
    labels: np.ndarray  # [n] int32
    confidences: np.ndarray  # [n] float64, when they were chosen (or last relabelled)

    @classmethod
    def none(cls) -> "PseudoLabels":
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0))

    def __len__(self) -> int:
        return len(self.indices)

    def as_json(self) -> dict[str, list]:
        """Lists by name, as JSON takes them."""
        return {name: array.tolist() for name, array in vars(self).items()}

    @classmethod
    def from_json(cls, saved: Mapping[str, list]) -> "PseudoLabels":
        """What `as_json` gave."""
        return cls(**{name: np.array(saved[name], array.dtype) for name, array in vars(cls.none()).items()})

    def __add__(self, other: "PseudoLabels") -> "PseudoLabels":
        return PseudoLabels(*map(np.concatenate, zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Round:
    """What one selection did."""

    added: PseudoLabels
    shortfall: np.ndarray  # [C] int64, how many clips of each class were missing to k
    pseudo: PseudoLabels  # what the next training uses


def select_balanced(
    probs: np.ndarray, taken: np.ndarray, k: int, min_confidence: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """For each class, the k most confident clips among those predicted as that class.

    Args:
        probs: [N, C]; float64 tells apart what float32 rounds to 1.
        taken: [N] bool, clips that may not be chosen.
        k: clips per class; a class with fewer candidates gives what it has.

    Returns:
        indices [n] int64 and labels [n] int32, by class and then by falling confidence; equal confidences by index.
    """
    probs = np.asarray(probs)
    predicted, confidence = probs.argmax(axis=1), probs.max(axis=1)
    free = ~np.asarray(taken, bool) & (confidence >= min_confidence)
    chosen = []
    for label in range(probs.shape[1]):
        candidates = np.flatnonzero(free & (predicted == label))
        chosen.append(candidates[np.argsort(-confidence[candidates], kind="stable")][:k])
    indices = np.concatenate(chosen)
    return indices, predicted[indices].astype(np.int32)


def all_agree(probs: np.ndarray, unimodal: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Chen's agreement filter: [N] bool, whether all unimodal classifiers predict what the multimodal does.

    Args:
        probs: [N, C] of the multimodal classifier, as logits or probabilities.
        unimodal: [M, N, C] of the classifiers that see one modality.
        present: [M, N] bool; a classifier whose modality is absent has no say.
    """
    return ((unimodal.argmax(axis=-1) == probs.argmax(axis=-1)) | ~present).all(axis=0)


def select_round(
    pseudo: PseudoLabels, probs: np.ndarray, eligible: np.ndarray, settings: SelfTrainingSettings
) -> Round:
    """Chooses the clips that join `pseudo`, or replace it.

    `probs` [N, C] are of networks trained with `pseudo`; only clips that are `eligible` [N] bool may be chosen.
    """
    taken = ~np.asarray(eligible, bool)
    if settings.cumulative:
        taken[pseudo.indices] = True
    indices, labels = select_balanced(probs, taken, settings.k, settings.min_confidence)
    added = PseudoLabels(indices, labels, probs[indices, labels].astype(np.float64))
    shortfall = settings.k - np.bincount(labels, minlength=probs.shape[1])
    if not settings.cumulative:
        return Round(added, shortfall, added)
    if settings.relabel:
        confident = pseudo.indices[probs[pseudo.indices].max(axis=1) >= settings.min_confidence]
        newest = probs[confident]
        pseudo = PseudoLabels(confident, newest.argmax(axis=1).astype(np.int32), newest.max(axis=1).astype(np.float64))
    return Round(added, shortfall, pseudo + added)


class Trained(Protocol):
    """A setting's scores after one training."""

    cv_waf: np.ndarray  # [F]
    challenge_waf: np.ndarray  # [F]
    test_waf: float | None


class Candidates(NamedTuple):
    """What a selection sees of the unlabelled clips, for each of G choices: one of every fold, or one for all."""

    probs: np.ndarray  # [G, U, C]
    eligible: np.ndarray  # [G, U] bool


AnyTrained = TypeVar("AnyTrained", bound=Trained)


def self_train(
    train: Callable[[Mapping[str, Sequence[PseudoLabels]], int], Mapping[str, AnyTrained]],
    candidates: Callable[[AnyTrained], Candidates],
    names: Sequence[str],
    settings: SelfTrainingSettings,
    folder: Path,
    made_of: str = "",
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> tuple[list[dict[str, Any]], Mapping[str, AnyTrained]]:
    """All rounds, each of them as it is saved (setting -> scores and choices), and the final training.

    Each setting chooses for itself. A round that `folder` holds already is not computed again.

    Args:
        train: (setting -> its pseudo-labels, number of the training) -> setting -> what came of it.
        candidates: what came of a setting -> what it chooses from.
        made_of: names all that the rounds depend on; those of anything else are not gone on with.
        advance: called with trainings done.
    """
    rounds = []
    pseudo: dict[str, list[PseudoLabels]] = {}
    for number in range(1, settings.rounds + 1):
        path, made = folder / f"round-{number:02d}.json", digest_of(made_of, number)
        parse = partial(checked_round, names=names)
        if (saved := in_step(path.stem, partial(usable, path, made, parse=parse))) is None:
            trained = train(pseudo, number)
            entries = {name: choose(pseudo.get(name), candidates(trained[name]), settings) for name in names}
            keep(path, {name: scores_of(trained[name]) | entries[name] for name in names}, made)
            saved = in_step(path.stem, partial(read_kept, path, made))
        rounds.append(saved)
        pseudo = {name: [PseudoLabels.from_json(each) for each in rounds[-1][name]["pseudo"]] for name in names}
        advance(1)
    final = train(pseudo, settings.rounds + 1)
    advance(1)
    return rounds, final


def checked_round(saved: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A round as it was saved, or any of the errors of content that is none."""
    for entry in (saved[name] for name in names):
        for each in (*entry["added"], *entry["pseudo"]):
            PseudoLabels.from_json(each)
        np.array([entry["cv_waf"], entry["challenge_waf"]], float)
        np.array(entry["shortfall"], int)
        float(entry["test_waf"] or 0)
    return saved


def scores_of(trained: Trained) -> dict[str, Any]:
    """A setting's scores, for JSON."""
    wafs = {"cv_waf": trained.cv_waf.tolist(), "challenge_waf": trained.challenge_waf.tolist()}
    return {**wafs, "test_waf": trained.test_waf}


def choose(
    pseudo: Sequence[PseudoLabels] | None, candidates: Candidates, settings: SelfTrainingSettings
) -> dict[str, list]:
    """The clips that one round adds to each of a setting's G choices, for JSON. pseudo: [G], None before the first."""
    pseudo = pseudo or [PseudoLabels.none()] * len(candidates.probs)
    each = zip(pseudo, candidates.probs, candidates.eligible, strict=True)
    chosen = [select_round(own, probs, eligible, settings) for own, probs, eligible in each]
    return {
        "added": [each.added.as_json() for each in chosen],
        "shortfall": [each.shortfall.tolist() for each in chosen],
        "pseudo": [each.pseudo.as_json() for each in chosen],
    }
