"""From what a run computed to `metrics.json` (schema: mer_jax/report/schema.py)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mer_jax.data.clips import Dataset
from mer_jax.fuse import Fusion, Result
from mer_jax.metrics import accuracy
from mer_jax.report.scores import scores, waf
from mer_jax.self_training import Options


def dataset_section(dataset: Dataset, modalities: Sequence[str]) -> dict[str, Any]:
    """Counts and classes."""
    return {
        "name": dataset.name,
        "labels": list(dataset.labels),
        "modalities": list(modalities),
        "counts": dataset.counts(),
        "classes": dataset.classes(),
    }


def cv_section(fusion: Fusion, result: Result, labels: Sequence[str]) -> dict[str, Any]:
    """Held-out scores of the first setting: WAF is the mean over folds, the rest is over all clips at once."""
    found = scores(fusion.data.labels, fusion.held_out(result), labels)
    return {**found, "waf": float(result.cv_waf[0].mean()), "std": float(result.cv_waf[0].std())}


def fold_sections(fusion: Fusion, result: Result, pseudo: int) -> list[dict[str, Any]]:
    """Per-fold scores of the first setting, trained with `pseudo` pseudo-labelled clips."""
    data, held_out = fusion.data, fusion.held_out(result)
    sections = []
    for fold in range(fusion.num_folds):
        own = data.fold_of == fold
        sections.append(
            {
                "fold": fold + 1,
                "waf": float(result.cv_waf[0, fold]),
                "accuracy": accuracy(data.labels[own], held_out[own].argmax(-1)),
                "best_epoch": int(result.fitted.best_epoch[fold]) + 1,
                "train": int((~own).sum()) + pseudo,
                "validation": int(own.sum()),
            }
        )
    return sections


def test_section(fusion: Fusion, result: Result, labels: Sequence[str]) -> dict[str, Any] | None:
    """The first setting's ensemble on the test clips whose label is known; None if there are none."""
    truth = fusion.data.test_labels
    known = truth >= 0
    if not known.any():
        return None
    single = [waf(truth[known], probs[known]) for probs in fusion.fold_probabilities(result)]
    return {**scores(truth[known], result.test[0][known], labels), "folds_waf_std": float(np.std(single))}


def round_sections(
    rounds: Sequence[Mapping[str, Any]], truth: np.ndarray, labels: Sequence[str], options: Options
) -> list[dict[str, Any]]:
    """One setting's rounds; truth [U]: labels of the unlabelled clips where known, else -1."""
    sections = []
    for number, entry in enumerate(rounds, start=1):
        added = entry["added"]
        given, confidence = np.array(added["labels"], int), np.array(added["confidences"])
        actual = truth[np.array(added["indices"], int)]
        known = int((actual >= 0).sum())
        sections.append(
            {
                "round": number,
                "cv_waf": float(np.mean(entry["cv_waf"])),
                "cv_std": float(np.std(entry["cv_waf"])),
                "test_waf": entry["test_waf"],
                "added": {label: int((given == i).sum()) for i, label in enumerate(labels)},
                "confidence": {
                    label: float(confidence[given == i].mean()) for i, label in enumerate(labels) if (given == i).any()
                },
                "correct": int((actual == given).sum()) if known else None,
                "known": known,
                "shortfall": {
                    label: missing for label, missing in zip(labels, entry["shortfall"], strict=True) if missing
                },
            }
        )
    return sections


def subset_sections(fusion: Fusion, result: Result) -> list[dict[str, Any]]:
    """WAF of the first setting's ensemble when only some modalities are present, for every subset."""
    modalities = list(fusion.data.labelled.features)
    return [
        {"modalities": list(subset), **fusion.waf_given(result, subset)}
        for size in range(1, len(modalities) + 1)
        for subset in combinations(modalities, size)
    ]


def attention_section(fusion: Fusion, result: Result, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean attention per modality over the labelled clips of each label."""
    attention = fusion.attention(result)  # [L, M]
    modalities = list(fusion.data.labelled.features)
    return {
        label: dict(zip(modalities, attention[fusion.data.labels == i].mean(axis=0).tolist(), strict=True))
        for i, label in enumerate(labels)
        if (fusion.data.labels == i).any()
    }


def ranking_section(
    transcripts: Sequence[str], truth: np.ndarray, rankings: Mapping[str, Sequence[str]], labels: Sequence[str]
) -> dict[str, Any] | None:
    """How often the ranking's first, or first two, hold the label of a labelled clip; None without rankings."""
    ranked = [(labels[t], rankings[text]) for text, t in zip(transcripts, truth, strict=True) if text in rankings]
    if not ranked:
        return None
    per_class = {
        label: float(np.mean([ranking[0] == label for true, ranking in ranked if true == label]))
        for label in labels
        if any(true == label for true, _ in ranked)
    }
    return {
        "top1": float(np.mean([ranking[0] == true for true, ranking in ranked])),
        "top2": float(np.mean([true in ranking[:2] for true, ranking in ranked])),
        "per_class": per_class,
    }
