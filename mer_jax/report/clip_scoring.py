"""What the networks make of single clips: for the page of clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer_jax.data.clips import SPLITS
from mer_jax.fusion.cross_validation import CrossValidation, TrainedSetting
from mer_jax.fusion.data import Embeddings
from mer_jax.fusion.modalities import attention_by_modality
from mer_jax.metrics import softmax, subsets_of

MOST_CLIPS = 5000  # on the page; the unlabelled ones are thinned out evenly


def shown(counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Positions within each split of the clips that are shown: labelled and test clips first."""
    left, positions = MOST_CLIPS, {}
    for split in sorted(counts, key=("train", "test", "unlabeled").index):
        count = min(counts[split], left)
        positions[split] = np.arange(count) * counts[split] // max(count, 1)
        left -= count
    return {split: positions[split] for split in SPLITS}


def clip_scores(
    fusion: CrossValidation, run: TrainedSetting, temperatures: np.ndarray, fold_temperatures: np.ndarray
) -> dict[str, Any]:
    """Of each split the positions that are shown (of labelled clips: among those with any modality), and of each clip:

    its probabilities; the class and its probability by each subset of the modalities, None where it has none of them;
    and the attention that each modality gets. A labelled clip's are those of the networks that have not seen it.

    Args:
        temperatures: [M], of the final ensemble.
        fold_temperatures: [F, M], of the networks of each fold.
    """
    data = fusion.data
    splits = {"train": data.labelled, "unlabeled": data.unlabelled, "test": data.test}
    chosen = shown({split: len(clips.present_count) for split, clips in splits.items()})
    scores = {}
    for split, everything in splits.items():
        positions = chosen[split]
        clips = everything.take(positions)
        fold_of = data.fold_of[positions] if split == "train" else None
        own_temperatures = temperatures[None] if fold_of is None else fold_temperatures[fold_of]
        prior = fusion.prior(run, split)[positions]
        subsets = {"+".join(subset): clips.only(subset) for subset in subsets_of(data.modalities)}
        probs = {name: _probs(fusion, run, each, fold_of, own_temperatures, prior) for name, each in subsets.items()}
        known = {name: each.present_count > 0 for name, each in subsets.items()}
        scores[split] = {
            "positions": positions.tolist(),
            "probs": _rounded(probs["+".join(data.shown if split == "train" else data.modalities)]),
            "subsets": {name: _best(probs[name], known[name]) for name in subsets},
            "attention": _rounded(_attention(fusion, run, clips, fold_of)),
        }
    return scores


def _probs(
    fusion: CrossValidation,
    run: TrainedSetting,
    clips: Embeddings,
    fold_of: np.ndarray | None,
    temperatures: np.ndarray,
    prior: np.ndarray,
) -> np.ndarray:
    """Calibrated [N, C]: of the ensemble, or of each clip's own fold. temperatures: [1 or N, M]. prior: [N, C]."""
    if fold_of is None:
        (logits,) = fusion.fold_logits(run.members, clips)
        own = logits.mean(axis=0)
    else:
        (logits,) = fusion.fold_logits(run.honest.blind_members, clips)
        own = logits[fold_of, np.arange(len(fold_of))]
    of_each = np.broadcast_to(temperatures, (len(own), temperatures.shape[1]))
    return softmax((own + prior) / np.take_along_axis(of_each, np.maximum(clips.present_count, 1)[:, None] - 1, axis=1))


def _attention(
    fusion: CrossValidation, run: TrainedSetting, clips: Embeddings, fold_of: np.ndarray | None
) -> np.ndarray:
    """Mean attention [N, M] over the ensemble's networks, or those of each clip's own fold."""
    if not len(clips.present_count):
        return np.zeros((0, len(fusion.data.modalities)))
    members = run.members if fold_of is None else run.honest.blind_members
    by_stream = fusion.networks.scorer(members, clips.features, clips.present).attention  # [R, N, S]
    attention = attention_by_modality(by_stream, clips.modality_of)  # [R, N, M]
    if fold_of is None:
        return attention.mean(axis=0)
    by_fold = attention.reshape(fusion.data.num_folds, -1, *attention.shape[1:]).mean(axis=1)
    return by_fold[fold_of, np.arange(len(fold_of))]


def _best(probs: np.ndarray, known: np.ndarray) -> list[Sequence[float] | None]:
    """Class and probability of each clip; None where it is not known."""
    best = zip(probs.argmax(-1).tolist(), probs.max(-1, initial=0.0).round(3).tolist(), known, strict=True)
    return [[label, share] if there else None for label, share, there in best]


def _rounded(array: np.ndarray) -> list[list[float]]:
    return np.asarray(array, np.float64).round(3).tolist()
