"""From what a run computed to `metrics.json` (schema: mer_jax/report/schema.py)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mer_jax.data.clips import Clip, Dataset
from mer_jax.fuse import Fusion, Result
from mer_jax.fusion.trials import Setting
from mer_jax.metrics import accuracy, waf
from mer_jax.report.scores import scores
from mer_jax.text.annotators import Rankings


def collect(
    dataset: Dataset,
    modalities: Sequence[str],
    fusion: Fusion,
    settings: Mapping[str, Setting],
    rounds: Sequence[Mapping[str, Any]],
    final: Result,
) -> dict[str, Any]:
    """Every section that the fusion of all modalities fills."""
    labels = dataset.labels
    pseudo = len(rounds[-1]["this run"]["pseudo"]["labels"]) if rounds else 0
    own = np.arange(fusion.num_folds)
    return {
        "dataset": {
            "name": dataset.name,
            "labels": list(labels),
            "modalities": list(modalities),
            "counts": dataset.counts(),
            "classes": dataset.classes(),
        },
        "cv": cv_section(fusion, final, labels),
        "folds": fold_sections(fusion, final, pseudo),
        "test": test_section(fusion, final, labels),
        "rounds": round_sections([saved["this run"] for saved in rounds], fusion.data.unlabelled_truth, labels),
        "modality_subsets": subset_sections(fusion, final),
        "ablations": ablation_sections(settings, rounds, final),
        "attention": attention_section(fusion, final, labels),
        "curves": {
            "fusion": {
                "loss": np.asarray(final.fitted.train_loss)[own].tolist(),
                "waf": np.asarray(final.fitted.validation_waf)[own].tolist(),
            },
        },
    }


def waf_section(cv_waf: Sequence[float], test_waf: float | None) -> dict[str, Any]:
    """WAF over folds [F] and on the test clips."""
    return {"cv_waf": float(np.mean(cv_waf)), "cv_std": float(np.std(cv_waf)), "test_waf": test_waf}


def single_sections(
    alone: Mapping[str, Setting], singles: Result | None, bare: Result | None, ranked: bool
) -> list[dict[str, Any]]:
    """Models trained on a part of the modalities.

    singles: of the settings `alone`. bare: of text alone, without rankings. ranked: whether other text has them.
    """
    rows = [(name, setting, singles, i) for i, (name, setting) in enumerate(alone.items())]
    rows.append(("text without ranking", Setting(("text",)), bare, 0))
    return [
        {
            "name": name,
            "modalities": list(setting.modalities),
            "ranking": ranked and found is not bare and "text" in setting.modalities,
            **waf_section(found.cv_waf[i], found.test_waf[i]),
        }
        for name, setting, found, i in rows
        if found
    ]


def ablation_sections(
    settings: Mapping[str, Setting], rounds: Sequence[Mapping[str, Any]], final: Result
) -> list[dict[str, Any]]:
    """Each setting without self-training (before the first round adds anything) and with it."""
    sections = []
    for i, (name, setting) in enumerate(settings.items()):
        row = {
            "name": name,
            "modalities": list(setting.modalities),
            "modality_dropout": float(setting.hyperparameters.modality_dropout),
        }
        last = waf_section(final.cv_waf[i], final.test_waf[i])
        if rounds:
            first = waf_section(rounds[0][name]["cv_waf"], rounds[0][name]["test_waf"])
            sections += [{**row, "self_training": False, **first}, {**row, "self_training": True, **last}]
        else:
            sections.append({**row, "self_training": False, **last})
    return sections


def cv_section(fusion: Fusion, result: Result, labels: Sequence[str]) -> dict[str, Any]:
    """Held-out scores of the first setting: WAF is the mean over folds, the rest is over all clips at once."""
    found = scores(fusion.data.labels, fusion.held_out(result), labels)
    return {**found, "waf": float(result.cv_waf[0].mean()), "std": float(result.cv_waf[0].std())}


def fold_sections(fusion: Fusion, result: Result, pseudo: int) -> list[dict[str, Any]]:
    """Per-fold scores of the first setting, trained with `pseudo` pseudo-labelled clips and the copies."""
    data, held_out = fusion.data, fusion.held_out(result)
    sections = []
    for fold, own in fusion.by_fold():
        sections.append(
            {
                "fold": fold + 1,
                "waf": float(result.cv_waf[0, fold]),
                "accuracy": accuracy(data.labels[own], held_out[own].argmax(-1)),
                "best_epoch": int(result.fitted.best_epoch[fold]) + 1,
                "train": int((~own).sum() + (~own)[data.copy_of].sum()) + pseudo,
                "validation": int(own.sum()),
            }
        )
    return sections


def test_section(fusion: Fusion, result: Result, labels: Sequence[str]) -> dict[str, Any] | None:
    """The first setting's ensemble on the test clips whose label is known; None if there are none."""
    truth = fusion.data.test_truth
    known = truth >= 0
    if not known.any():
        return None
    logits = fusion.scorer(fusion.own(result), *fusion.data.test).logits  # [F, T, C]
    single = [waf(truth[known], own[known]) for own in logits]
    return {**scores(truth[known], result.test[0][known], labels), "folds_waf_std": float(np.std(single))}


def round_sections(
    rounds: Sequence[Mapping[str, Any]], truth: np.ndarray, labels: Sequence[str]
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
    attention = fusion.scorer(fusion.own(result), *fusion.data.labelled).attention.mean(axis=0)  # [L, M]
    modalities = list(fusion.data.labelled.features)
    return {
        label: dict(zip(modalities, attention[fusion.data.labels == i].mean(axis=0).tolist(), strict=True))
        for i, label in enumerate(labels)
        if (fusion.data.labels == i).any()
    }


def ranking_section(
    clips: Sequence[Clip], labels: Sequence[str], rankings: Rankings, tokens: Mapping[str, float]
) -> dict[str, Any] | None:
    """How well the rankings agree with the labelled clips, and which clips lack one; None if nothing was ranked."""
    if not rankings.ranked and not rankings.failures:
        return None
    ranked = [(clip.label, rankings.ranked[clip.transcript]) for clip in clips if clip.transcript in rankings.ranked]
    places = [(label, ranking.index(label)) for label, ranking in ranked if label]
    return {
        "annotator": rankings.annotator,
        "transcripts": len(rankings.ranked) + len(rankings.failures),
        "ranked": len(rankings.ranked),
        "overall": agreement([place for _, place in places]),
        "per_class": {label: agreement([place for own, place in places if own == label]) for label in labels},
        "tokens": dict(tokens),
        "failures": [
            {"name": clip.name, "split": clip.split, "modality": None, "reason": rankings.failures[clip.transcript]}
            for clip in clips
            if clip.transcript in rankings.failures
        ],
    }


def agreement(places: Sequence[int]) -> dict[str, Any]:
    """How often the true label's place, counted from 0, is the first, or one of the first two; None without clips."""
    clips = len(places)
    top1, top2 = (sum(place < top for place in places) for top in (1, 2))
    return {"clips": clips, "top1": top1 / clips if clips else None, "top2": top2 / clips if clips else None}
