"""What votes from outside are worth, for `metrics.json`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mer_jax.data.votes import Votes, VoteSettings
from mer_jax.fusion.cross_validation import CrossValidation, TrainedSetting
from mer_jax.fusion.votes import has_vote
from mer_jax.metrics import waf

ALMOST_ALL = 0.95  # of the labels, with which nobody agrees who has not seen them


def votes_section(fusion: CrossValidation, alone: TrainedSetting, voted: TrainedSetting) -> dict[str, Any] | None:
    """Agreement, weights, and scores of votes alone, without and with them; None without votes.

    Args:
        alone: the run's setting as its networks have it. voted: with the votes' prior.
    """
    data = fusion.data
    if not data.votes or not voted.votes:
        return None
    said = {
        "train": fusion.held_out_logits(alone.honest.fitted),
        "unlabeled": alone.unlabelled.mean(axis=0),
        "test": alone.test.mean(axis=0),
    }
    splits = {}
    for split, prior in data.votes.splits.items():
        clips = has_vote(prior)
        truth = data.truth[split]
        known = clips & (truth >= 0)
        splits[split] = {
            "clips": int(clips.sum()),
            "networks": share(prior.argmax(-1) == said[split].argmax(-1), clips),
            "labels": share(prior.argmax(-1) == truth, known),
            "waf": waf(truth[known], prior[known]) if known.any() else None,
        }
    return {
        "pseudo_labels": data.votes.pseudo_labels,
        "weight": voted.votes.ensemble,
        "fold_weights": voted.votes.folds.tolist(),
        "splits": splits,
        "networks_alone": {"cv_waf": float(alone.cv_waf.mean()), "test_waf": alone.test_waf},
        "with_votes": {"cv_waf": float(voted.cv_waf.mean()), "test_waf": voted.test_waf},
    }


def share(right: np.ndarray, clips: np.ndarray) -> float | None:
    """Of some clips those that are right; None of none."""
    return float(right[clips].mean()) if clips.any() else None


def table_section(votes: Votes | None, settings: VoteSettings) -> dict[str, Any]:
    """Of the table of votes: what could not be used of it."""
    if votes is None:
        return {}
    problems = [vars(problem) for problem in votes.problems]
    return {"file": settings.file, "lacking": len(votes.lacking), "problems": problems}


def vote_cautions(section: dict[str, Any] | None) -> Iterator[str]:
    """What a reader should know before trusting scores with the votes."""
    if section is None:
        return
    of_labelled = section["splits"]["train"]
    if not of_labelled["clips"]:
        yield "no labelled clip has a vote: what votes are worth cannot be told, and they have no weight"
    elif of_labelled["labels"] >= ALMOST_ALL:
        yield (
            f"votes agree with {of_labelled['labels']:.0%} of the labels: where they come of these, scores with them "
            "are worth nothing"
        )
