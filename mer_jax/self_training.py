"""Class-balanced self-training (Chen et al. 2023; paper, section 3.4): which clips to trust next."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Options:
    """How pseudo-labels are chosen.

    Attributes:
      rounds: selections.
      k: clips per class and round.
      cumulative: rounds add to the earlier ones, each clip at most once; False replaces the earlier ones, and
        all clips may be chosen again.
      relabel: clips of earlier rounds take the label that the newest ensemble predicts, and leave where that is
        less confident than `min_confidence`; False keeps labels once given.
      min_confidence: least probability of the predicted class.
      agreement: choose only clips on which the unimodal classifiers agree with the multimodal one.
    """

    rounds: int = 10
    k: int = 10
    cumulative: bool = True
    relabel: bool = False
    min_confidence: float = 0.0
    agreement: bool = False

    def slots(self, num_classes: int) -> int:
        """The most pseudo-labels there can be at any time."""
        return self.k * num_classes * (self.rounds if self.cumulative else min(self.rounds, 1))


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
class Round:
    """What one selection did: all that a resumed run needs."""

    number: int
    added: PseudoLabels
    shortfall: np.ndarray  # [C] int64, how many clips of each class were missing to k
    pseudo: PseudoLabels  # what the next training uses


def select_balanced(
    probs: np.ndarray, taken: np.ndarray, k: int, min_confidence: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """For each class, the k most confident clips among those predicted as that class.

    Args:
      probs: [N, C] class probabilities; float64 tells apart what float32 rounds to 1.
      taken: [N] bool, clips that may not be chosen.
      k: clips per class; a class with fewer candidates gives what it has.
      min_confidence: candidates are at least this confident.

    Returns:
      indices [n] int64 and labels [n] int32, by class and then by falling confidence; equal confidences by
      index.
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
      probs: [N, C] of the multimodal classifier.
      unimodal: [M, N, C] of the classifiers that see one modality.
      present: [M, N] bool; a classifier whose modality is absent has no say.
    """
    return ((unimodal.argmax(axis=-1) == probs.argmax(axis=-1)) | ~present).all(axis=0)


def select_round(
    number: int, pseudo: PseudoLabels, probs: np.ndarray, options: Options, eligible: np.ndarray | None = None
) -> Round:
    """Chooses the clips that join `pseudo` (or replace it) after round `number`.

    `probs` [N, C] are of the ensemble trained with `pseudo`; only clips that are `eligible` [N] bool may be
    chosen.
    """
    taken = np.zeros(len(probs), bool) if eligible is None else ~np.asarray(eligible, bool)
    if options.cumulative:
        taken[pseudo.indices] = True
    indices, labels = select_balanced(probs, taken, options.k, options.min_confidence)
    added = PseudoLabels(indices, labels, probs[indices, labels].astype(np.float64))
    shortfall = options.k - np.bincount(labels, minlength=probs.shape[1])
    if not options.cumulative:
        return Round(number, added, shortfall, added)

    kept = pseudo
    if options.relabel:
        confident = pseudo.indices[probs[pseudo.indices].max(axis=1) >= options.min_confidence]
        newest = probs[confident]
        kept = PseudoLabels(confident, newest.argmax(axis=1).astype(np.int32), newest.max(axis=1).astype(np.float64))
    fields = [field.name for field in dataclasses.fields(PseudoLabels)]
    both = PseudoLabels(*(np.concatenate([getattr(kept, name), getattr(added, name)]) for name in fields))
    return Round(number, added, shortfall, both)
