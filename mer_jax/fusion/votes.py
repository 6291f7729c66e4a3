"""Votes from outside as a prior: their weighted logarithm is added to the logits of the fused networks.

The weight is the most likely one by clips that the networks have not seen, together with a temperature of the logits
(both scale linearly: a convex problem of two numbers); by chance alone it is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mer_jax.data.votes import FILTER, VOTE, Votes
from mer_jax.fusion.calibration import LEAST, MOST
from mer_jax.metrics import softmax
from mer_jax.runtime.kept import digest_of

SMOOTHING = 0.05  # share of a vote that goes to all labels alike
MOST_SURE = 20.0  # what the log-votes may be multiplied by
CHANCE = 2.0  # log-likelihood that a worthless vote gains by chance in 1 of 40 data sets: half of a chi-square's 4


@dataclass(frozen=True)
class VotePrior:
    """Logarithms of smoothed votes for the clips that fusion sees; zeros, which change nothing, where there is none."""

    labelled: np.ndarray  # [L, C] float64
    unlabelled: np.ndarray  # [U, C]
    test: np.ndarray  # [T, C]
    pseudo_labels: str

    @classmethod
    def of(cls, votes: Votes, labelled: np.ndarray, unlabelled: np.ndarray, test: np.ndarray) -> "VotePrior":
        """Of the clips at some positions of the data set."""
        classes = votes.probs.shape[1]
        smoothed = (1 - SMOOTHING) * votes.probs + SMOOTHING / classes
        logs = np.where(votes.probs.any(axis=1, keepdims=True), np.log(smoothed * classes), 0.0)
        return cls(logs[labelled], logs[unlabelled], logs[test], votes.pseudo_labels)

    @property
    def splits(self) -> Mapping[str, np.ndarray]:
        """Split -> [N, C]."""
        return {"train": self.labelled, "unlabeled": self.unlabelled, "test": self.test}

    @property
    def digest(self) -> str:
        return digest_of(self.pseudo_labels, *(each.tobytes() for each in self.splits.values()))

    def for_choice(
        self, logits: np.ndarray, eligible: np.ndarray, labels: np.ndarray, held_out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What pseudo-labels are chosen from: logits [G, U, C] and who is eligible [G, U], of G choices.

        A choice's weight is the one by which votes alone make the labels most likely that it does not hold out. No
        network has a say: those that would tell it on other clips have learned from the ones that are held out.

        Args:
            labels: [L] int. held_out: [G, L] bool.
        """
        if self.pseudo_labels == FILTER:
            eligible = eligible & (agree(logits, self.unlabelled) | ~has_vote(self.unlabelled))
        if self.pseudo_labels == VOTE:
            weights = [alone(self.labelled[~clips], labels[~clips]) for clips in held_out]
            logits = logits + np.array(weights)[:, None, None] * self.unlabelled
        return logits, eligible


@dataclass(frozen=True)
class VoteWeights:
    """What the prior of one setting is multiplied by."""

    ensemble: float  # by all labelled clips
    folds: np.ndarray  # [F], of a fold's held-out clips, by those of the other folds

    @classmethod
    def fit(
        cls, logits: np.ndarray, without: np.ndarray, prior: np.ndarray, labels: np.ndarray, held_out: np.ndarray
    ) -> "VoteWeights":
        """Cross-fitted: no clip that a fold holds out has a say in the fold's weight.

        Args:
            logits: [L, C] of networks that have not seen the clips.
            without: [F, L, C] of such as have not seen what each fold holds out, either; NaN where there are none.
            prior: [L, C]. held_out: [F, L] bool.
        """
        folds = [
            0.0 if np.isnan(own).any() else fit_weight(own[~clips], prior[~clips], labels[~clips])
            for own, clips in zip(without, held_out, strict=True)
        ]
        return cls(fit_weight(logits, prior, labels), np.array(folds))

    def of_fold(self, fold: int) -> "VoteWeights":
        """That of one fold, for the clips of all."""
        return VoteWeights(float(self.folds[fold]), np.full(len(self.folds), self.folds[fold]))


def has_vote(prior: np.ndarray) -> np.ndarray:
    """Whether a clip has a vote that says anything, [N] bool of [N, C]."""
    return np.asarray(prior.any(axis=-1))


def agree(logits: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Whether the networks' label is the vote's, or one of those that share its first place.

    [..., N] bool of logits [..., N, C] and [N, C].
    """
    predicted = logits.argmax(axis=-1)[..., None]
    votes = np.take_along_axis(np.broadcast_to(prior, logits.shape), predicted, axis=-1)[..., 0]
    return np.asarray(votes == prior.max(axis=-1))


def fit_weight(logits: np.ndarray, prior: np.ndarray, labels: np.ndarray) -> float:
    """The weight of the prior, in units of the logits, under which the labels are most likely; 0 if that is chance.

    Args:
        logits: [N, C], of networks that have not seen the clips.
        prior: [N, C], as of `VotePrior`.
        labels: [N] int.
    """
    without, _ = most_likely(logits, np.zeros_like(prior), labels)
    likelihood, (scale, own) = most_likely(logits, prior, labels)
    return own / scale if likelihood - without > CHANCE else 0.0


def alone(prior: np.ndarray, labels: np.ndarray) -> float:
    """The weight by which votes alone make the labels most likely; 0 if that is chance. As of `fit_weight`."""
    nothing = np.zeros_like(prior)
    likelihood, (_, own) = most_likely(nothing, prior, labels)
    return own if likelihood - most_likely(nothing, nothing, labels)[0] > CHANCE else 0.0


def most_likely(logits: np.ndarray, prior: np.ndarray, labels: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The largest log-likelihood of the labels, and the factors of logits and prior that give it."""
    if not len(labels):
        return 0.0, (1.0, 0.0)
    terms, clips = np.stack([logits, prior]), np.arange(len(labels))  # [2, N, C]

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        probs = softmax(np.tensordot(factors, terms, 1))
        slopes = (probs * terms).sum(axis=-1) - terms[:, clips, labels]
        return -np.log(np.maximum(probs[clips, labels], 1e-300)).mean(), slopes.mean(axis=1)

    from scipy.optimize import minimize

    bounds = [(1 / MOST, 1 / LEAST), (0.0, MOST_SURE)]
    best = minimize(loss, (1.0, 0.0), jac=True, bounds=bounds, method="L-BFGS-B")
    return -float(best.fun) * len(labels), (float(best.x[0]), float(best.x[1]))
