"""From what a run computed to `metrics.json` (schema: mer_jax/report/schema.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from mer_jax.data.clips import Clip, Dataset
from mer_jax.fusion.calibration import calibrated
from mer_jax.fusion.cross_validation import CrossValidation, TrainedSetting
from mer_jax.fusion.data import FusionData
from mer_jax.fusion.modalities import attention_by_modality
from mer_jax.metrics import expected_calibration_error, softmax, subsets_of, waf, waf_interval
from mer_jax.runtime.files import finite
from mer_jax.text.rankings import Rankings

Section = dict[str, Any]


def fusion_sections(
    dataset: Dataset,
    fusion: CrossValidation,
    run: TrainedSetting,
    rounds: Sequence[Section],
    temperatures: np.ndarray,
    fold_temperatures: np.ndarray,
) -> Section:
    """Every section that the fusion of all modalities fills.

    run: the run's own setting after the last round. rounds: of all settings, as self-training saved them. temperatures:
    [M], of the final ensemble. fold_temperatures: [F, M], see `temperatures_of_others`.
    """
    data, labels, modalities = fusion.data, dataset.labels, fusion.data.modalities
    own_rounds = [saved[run.setting.name] for saved in rounds]
    pseudo = [len(each["labels"]) for each in rounds[-1][run.honest.setting.name]["pseudo"]] if rounds else [0]
    return {
        "dataset": {
            "name": dataset.name,
            "labels": list(labels),
            "modalities": list(modalities),
            "counts": dataset.counts(),
            "classes": dataset.classes(),
            "not_valid": dataset.not_valid(modalities),
        },
        "cv": cv_section(fusion, run, labels, fold_temperatures),
        "folds": fold_sections(fusion, run, pseudo),
        "test": test_section(fusion, run, labels, temperatures),
        "rounds": round_sections(own_rounds, data.unlabelled_truth, labels),
        "modality_subsets": [
            {"modalities": list(subset), **fusion.waf_given(run, subset)} for subset in subsets_of(modalities)
        ],
        "temperatures": {str(count): float(each) for count, each in enumerate(temperatures, start=1)},
        "attention": attention_section(fusion, run, labels),
    }


def curves_section(run: TrainedSetting, tune: Section | None) -> Section:
    """Losses and scores over epochs: of the final training, and of the prompts where they were tuned."""
    fitted = run.fitted
    fusion = {"loss": np.asarray(fitted.train_loss).tolist(), "waf": np.asarray(fitted.validation_waf).tolist()}
    return {"fusion": fusion, "tune": tune}


def scores(labels: np.ndarray, probs: np.ndarray, names: Sequence[str]) -> Section:
    """A `Scores` dictionary without its spread; labels [N] int, probs [N, C], names [C]."""
    predictions, classes = probs.argmax(-1), range(len(names))
    keys = ("label", "precision", "recall", "f1", "support")
    columns = precision_recall_fscore_support(labels, predictions, labels=classes, zero_division=0)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return {
        "waf": waf(labels, probs),
        "accuracy": float(accuracy_score(labels, predictions)),
        "ece": expected_calibration_error(labels, probs),
        "per_class": [dict(zip(keys, row, strict=True)) for row in rows],
        "confusion": confusion_matrix(labels, predictions, labels=classes).tolist(),
    }


def temperatures_of_others(fusion: CrossValidation, run: TrainedSetting) -> np.ndarray:
    """[F, M] for each fold: fitted on the held-out clips of the others."""
    own = [replace(run, votes=run.votes.of_fold(fold)) if run.votes else run for fold in range(fusion.data.num_folds)]
    return np.stack([fusion.temperatures(*each) for each in zip(own, ~fusion.data.held_out, strict=True)])


def cv_section(
    fusion: CrossValidation, run: TrainedSetting, labels: Sequence[str], fold_temperatures: np.ndarray
) -> Section:
    """The honest scores of the labelled clips, by what is shown of them, and what the challenge counts."""
    data, logits = fusion.data, fusion.held_out_logits(run.honest.fitted)
    counts, probs = data.labelled.only(data.shown).present_count, np.zeros(logits.shape)
    for clips, temperatures in zip(data.held_out, fold_temperatures, strict=True):
        probs[clips] = calibrated(logits[clips], counts[clips], temperatures)
    return {
        **scores(data.labels, softmax(logits), labels),
        "waf": float(run.cv_waf.mean()),
        "std": float(run.cv_waf.std()),
        "interval": waf_interval(data.labels, logits, data.groups.labelled, data.fold_of),
        "ece_calibrated": expected_calibration_error(data.labels, probs),
        "challenge": {"waf": float(run.challenge_waf.mean()), "std": float(run.challenge_waf.std())},
        **shown_section(fusion, run),
    }


def shown_section(fusion: CrossValidation, run: TrainedSetting) -> Section:
    """What held-out clips show, and their score where they show everything; nothing where they always do."""
    if not fusion.data.limited_to:
        return {}
    everything = fusion.fold_wafs(fusion.held_out_given(run, fusion.data.modalities))
    scores = {"waf": float(everything.mean()), "std": float(everything.std())}
    return {"shown": list(fusion.data.shown), "all_modalities": scores}


def waf_section(
    cv_waf: Sequence[float] | np.ndarray, challenge_waf: Sequence[float] | np.ndarray, test_waf: float | None
) -> Section:
    """WAF over folds [F], honest and as the challenge counts, and on the test clips."""
    cv, challenge = (np.array(wafs, float) for wafs in (cv_waf, challenge_waf))  # null of a saved round is nan
    means = {"cv_waf": float(cv.mean()), "cv_std": float(cv.std()), "challenge_waf": float(challenge.mean())}
    return finite({**means, "test_waf": test_waf})


def single_sections(
    singles: Mapping[str, TrainedSetting], bare_text: TrainedSetting | None, ranked: bool
) -> list[Section]:
    """Models trained on a part of the modalities; `bare_text` read no rankings, other text did if `ranked`."""
    rows = [(name, ranked and "text" in trained.setting.modalities, trained) for name, trained in singles.items()]
    if bare_text:
        rows.append(("text without ranking", False, bare_text))
    return [
        {
            "name": name,
            "modalities": list(trained.setting.modalities),
            "ranking": ranking,
            **waf_section(trained.cv_waf, trained.challenge_waf, trained.test_waf),
        }
        for name, ranking, trained in rows
    ]


def ablation_sections(rounds: Sequence[Section], final: Mapping[str, TrainedSetting]) -> list[Section]:
    """Each setting without self-training (before the first round adds anything) and with it; twins are not listed."""
    sections = []
    twins = {trained.honest.setting.name for trained in final.values() if trained.twin}
    for name, trained in final.items():
        if name in twins:
            continue
        dropout = float(trained.setting.hyperparameters.modality_dropout)
        row = {"name": name, "modalities": list(trained.setting.modalities), "modality_dropout": dropout}
        if rounds:
            first = waf_section(*(rounds[0][name][score] for score in ("cv_waf", "challenge_waf", "test_waf")))
            sections.append({**row, "self_training": False, **first})
        last = waf_section(trained.cv_waf, trained.challenge_waf, trained.test_waf)
        sections.append({**row, "self_training": bool(rounds), **last})
    return sections


def fold_sections(fusion: CrossValidation, run: TrainedSetting, pseudo: Sequence[int]) -> list[Section]:
    """Per-fold scores of a setting; `pseudo`: how many pseudo-labelled clips each fold trained with, or all."""
    data, logits = fusion.data, fusion.held_out_logits(run.honest.fitted)
    pseudo = [*pseudo] * (data.num_folds if len(pseudo) == 1 else 1)
    best_epochs = np.asarray(run.fitted.best_epoch).reshape(data.num_folds, -1) + 1
    return [
        {
            "fold": fold + 1,
            "waf": float(run.cv_waf[fold]),
            "challenge_waf": float(run.challenge_waf[fold]),
            "accuracy": float(accuracy_score(data.labels[clips], logits[clips].argmax(-1))),
            "best_epochs": best_epochs[fold].tolist(),
            "train": int((~clips).sum() + (~clips)[data.copy_of].sum()) + pseudo[fold],
            "validation": int(clips.sum()),
        }
        for fold, clips in enumerate(data.held_out)
    ]


def test_section(
    fusion: CrossValidation, run: TrainedSetting, labels: Sequence[str], temperatures: np.ndarray
) -> Section | None:
    """The ensemble on the test clips whose label is known; None if there are none."""
    data = fusion.data
    known = data.test_truth >= 0
    if not known.any():
        return None
    truth, logits = data.test_truth[known], run.test[:, known].mean(axis=0)
    folds, honest_folds = ([waf(truth, fold[known]) for fold in each.test] for each in (run, run.honest))
    probs = calibrated(logits, data.test.present_count[known], temperatures)
    return {
        **scores(truth, softmax(logits), labels),
        "interval": waf_interval(truth, logits, data.groups.test[known]),
        "ece_calibrated": expected_calibration_error(truth, probs),
        "folds_waf_mean": float(np.mean(honest_folds)),
        "folds_waf_std": float(np.std(folds)),
    }


def round_sections(rounds: Sequence[Section], truth: np.ndarray, labels: Sequence[str]) -> list[Section]:
    """One setting's rounds; truth [U]: labels of the unlabelled clips where known, else -1."""
    sections = []
    for number, entry in enumerate(rounds, start=1):
        choices = len(entry["added"])  # one for all folds, or one of each
        added = {key: np.concatenate([each[key] for each in entry["added"]]) for key in entry["added"][0]}
        given, confidence = added["labels"].astype(int), added["confidences"]
        actual = truth[added["indices"].astype(int)]
        known = int((actual >= 0).sum())
        shortfall = np.mean(entry["shortfall"], axis=0)
        sections.append(
            {
                "round": number,
                **waf_section(entry["cv_waf"], entry["challenge_waf"], entry["test_waf"]),
                "added": {label: float((given == i).sum() / choices) for i, label in enumerate(labels)},
                "confidence": {
                    label: float(confidence[given == i].mean()) for i, label in enumerate(labels) if (given == i).any()
                },
                "correct": int((actual == given).sum()) if known else None,
                "known": known,
                "shortfall": {label: float(clips) for label, clips in zip(labels, shortfall, strict=True) if clips},
            }
        )
    return sections


def attention_section(fusion: CrossValidation, run: TrainedSetting, labels: Sequence[str]) -> Section:
    """Mean attention per modality, the sum over its streams, over the labelled clips of each label."""
    attention = attention_by_modality(stream_attention(fusion, run), fusion.data.modality_of)
    return by_label(fusion.data, attention, fusion.data.modalities, labels)


def stream_attention(fusion: CrossValidation, run: TrainedSetting) -> np.ndarray:
    """Of labelled clips [L, S], mean over networks."""
    clips = fusion.data.labelled
    return fusion.networks.scorer(run.members, clips.features, clips.present).attention.mean(axis=0)


def by_label(data: FusionData, attention: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> Section:
    """Label -> name -> mean attention of its clips; attention: [L, len(names)]."""
    return {
        label: dict(zip(names, attention[data.labels == i].mean(axis=0).tolist(), strict=True))
        for i, label in enumerate(labels)
        if (data.labels == i).any()
    }


def ranking_section(
    clips: Sequence[Clip], labels: Sequence[str], rankings: Rankings, tokens: Mapping[str, float]
) -> Section | None:
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


def agreement(places: Sequence[int]) -> Section:
    """How often the true label's place, counted from 0, is the first, or one of the first two; None without clips."""
    clips = len(places)
    top1, top2 = (sum(place < top for place in places) for top in (1, 2))
    return {"clips": clips, "top1": top1 / clips if clips else None, "top2": top2 / clips if clips else None}
