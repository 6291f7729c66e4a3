"""A finished run's metrics, invented but plausible: counts add up, and one clip's name tries to be markup."""

from itertools import combinations

import numpy as np
import pytest

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
MODALITIES = ["speech", "image", "text", "video"]
SHARES = {"neutral": 0.26, "angry": 0.24, "happy": 0.20, "sad": 0.11, "worried": 0.14, "surprise": 0.05}


def _scores(rng, clips, skill):
    support = [round(share * clips) for share in SHARES.values()]
    mixing = skill * np.eye(6) + (1 - skill) * rng.dirichlet(np.ones(6), size=6)
    confusion = np.stack([rng.multinomial(n, row) for n, row in zip(support, mixing, strict=True)])
    hits, predicted = np.diag(confusion), confusion.sum(0)
    f1 = 2 * hits / (predicted + support)
    per_class = [
        {"label": label, "precision": p, "recall": r, "f1": f, "support": n}
        for label, p, r, f, n in zip(LABELS, hits / predicted, hits / support, f1, support, strict=True)
    ]
    return {
        "waf": float(f1 @ support / sum(support)),
        "accuracy": float(hits.sum() / sum(support)),
        "ece": 0.043,
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def _curves(rng, epochs, top):
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / (epochs / 6))
    noise = rng.normal(0, 0.012, (2, 5, epochs))
    loss, waf = 1.75 - 1.3 * rise + noise[0], 0.2 + (top - 0.2) * rise + noise[1]
    return {"loss": loss.tolist(), "waf": waf.tolist()}


def _round(rng, index):
    known = 60 if index < 8 else 54
    return {
        "round": index + 1,
        "cv_waf": 0.792 + 0.0035 * index + rng.normal(0, 0.003),
        "cv_std": 0.018,
        "challenge_waf": 0.85,
        "test_waf": 0.781 + 0.004 * index + rng.normal(0, 0.005),
        "added": dict.fromkeys(LABELS, 10) | ({"surprise": 4} if index >= 8 else {}),
        "confidence": {label: 0.98 - 0.012 * index - 0.02 * i for i, label in enumerate(LABELS)},
        "correct": known - 3 - index,
        "known": known,
        "shortfall": {"surprise": 6} if index >= 8 else {},
    }


def _problems(numbers, split, modality, reason):
    return [
        {"name": f"sample_{number:05d}", "split": split, "modality": modality, "reason": reason} for number in numbers
    ]


def fake_metrics():
    rng = np.random.default_rng(0)
    bounds = {"interval": [0.812, 0.88], "ece_calibrated": 0.021}
    cv = _scores(rng, 400, 0.79) | bounds | {"std": 0.0174, "cautions": [], "flattered": False}
    cv["challenge"] = {"waf": 0.91, "std": 0.015}
    test = _scores(rng, 200, 0.80) | bounds | {"folds_waf_mean": 0.79, "folds_waf_std": 0.0121}
    fusion = _curves(rng, 30, cv["waf"])
    alone = {"speech": 0.66, "image": 0.61, "text": 0.55, "video": 0.58}
    subsets = [list(subset) for size in range(1, 5) for subset in combinations(MODALITIES, size)]
    singles = [["speech"], ["image"], ["text"], ["video"], ["image", "video"]]
    bare = {"name": "text without ranking", "modalities": ["text"], "ranking": False}
    ablations = [("this run", True, 0.3), ("without self-training", False, 0.3), ("dropout 0", True, 0.0)]
    return {
        "dataset": {
            "name": "the bundled sample",
            "labels": LABELS,
            "modalities": MODALITIES,
            "counts": {"train": 400, "unlabeled": 800, "test": 200},
            "classes": {
                "train": {label: round(share * 400) for label, share in SHARES.items()},
                "test": {label: round(share * 200) for label, share in SHARES.items()},
            },
        },
        "cv": cv,
        "folds": [
            {
                "fold": fold + 1,
                "waf": cv["waf"] + offset,
                "accuracy": cv["accuracy"] + offset,
                "challenge_waf": 0.91 + offset,
                "best_epochs": [int(np.argmax(fusion["waf"][fold])) + 1],
                "train": 908,
                "validation": 80,
            }
            for fold, offset in enumerate([-0.021, 0.004, 0.026, -0.013, 0.004])
        ],
        "test": test,
        "rounds": [_round(rng, index) for index in range(10)],
        "modality_subsets": [
            {
                "modalities": subset,
                "cv_waf": cv["waf"] - 0.5 * sum(alone[m] - 0.42 for m in MODALITIES if m not in subset),
                "test_waf": test["waf"] - 0.5 * sum(alone[m] - 0.42 for m in MODALITIES if m not in subset),
            }
            for subset in subsets
        ],
        "single_modality": [
            {
                "name": " + ".join(names),
                "modalities": names,
                "ranking": names == ["text"],
                "cv_waf": alone[names[0]] + 0.03 * len(names),
                "cv_std": 0.02,
                "challenge_waf": alone[names[0]] + 0.05,
                "test_waf": alone[names[0]] + 0.02 * len(names),
            }
            for names in singles
        ]
        + [bare | {"cv_waf": 0.531, "cv_std": 0.02, "challenge_waf": 0.55, "test_waf": 0.527}],
        "ablations": [
            {
                "name": name,
                "modalities": MODALITIES,
                "self_training": self_training,
                "modality_dropout": dropout,
                "cv_waf": cv["waf"] - 0.013 * index,
                "cv_std": 0.018,
                "challenge_waf": 0.91,
                "test_waf": test["waf"] - 0.019 * index,
            }
            for index, (name, self_training, dropout) in enumerate(ablations)
        ],
        "video": {
            "mode": "per_fold",
            "zero_shot": 0.312,
            "linear_probe": 0.548,
            "tuned": 0.611,
            "tuned_best": 0.63,
            "strips": [],
        },
        "ranking": {
            "annotator": "openai (gpt-4o-mini, prompt zh-1)",
            "transcripts": 1320,
            "ranked": 1317,
            "overall": {"clips": 396, "top1": 0.542, "top2": 0.731},
            "per_class": {
                label: {"clips": 66, "top1": 0.38 + 0.06 * index, "top2": 0.6 + 0.05 * index}
                for index, label in enumerate(LABELS)
            },
            "tokens": {"transcript": 14.2, "added": 19.0, "most": 21},
            "failures": _problems([12, 700, 1300], "train", None, "the model refuses"),
        },
        "temperatures": {"1": 5.1, "2": 2.0},
        "attention": {
            label: {m: float(rng.normal(0.5, 0.35)) for m in MODALITIES} | {"text": -0.12} for label in LABELS
        },
        "curves": {"fusion": fusion, "tune": _curves(rng, 20, 0.61)},
        "faces": {"clips": 1490, "clips_without": 13, "frames": 151234, "frames_without": 2048},
        "problems": [
            *_problems(range(0, 400, 57), "train", "speech", "silent"),
            *_problems(range(400, 1200, 61), "unlabeled", "image", "no face was found"),
            *_problems(range(1200, 1400, 33), "test", "text", "empty transcript"),
            *_problems([77], "train", "video", "no video stream"),
            *_problems([319], "train", None, "truncated file: moov atom not found"),
            {"name": "<b>&clip", "split": "unlabeled", "modality": None, "reason": "a row without a clip"},
        ],
        "timing": {
            "write the sample": 38.2,
            "decode media": 21.9,
            "rank transcripts": 0.4,
            "encode speech": 24.1,
            "encode faces": 17.5,
            "encode text": 8.8,
            "tune EmoVCLIP": 61.3,
            "fusion and self-training": 33.0,
            "ablations": 14.2,
        },
        "peak_memory_gib": 2.31,
        "settings": {
            "seed": 0,
            "cv.folds": 5,
            "fusion.hidden": 128,
            "fusion.modality_dropout": 0.3,
            "self_training.rounds": 10,
            "self_training.per_class": 10,
            "video.labels": "per_fold",
            "text.template": "transcript_then_ranking_zh_v1",
            "data.root": "~/.cache/mer_jax/sample",
        },
        "environment": {
            "versions": {"mer_jax": "0.1.0", "python": "3.11.7", "jax": "0.10.2", "flax": "0.12.8"},
            "devices": ["cpu"],
            "commit": "3f2c9a1",
        },
        "checkpoints": {
            "speech": {
                "source": "TencentGameMate/chinese-hubert-base",
                "commit": "0123456789abcdef",
                "fingerprint": "f0",
            },
            "text": {"source": "/models/qwen", "commit": "", "fingerprint": "f1"},
        },
    }


VOTES = {
    "file": "votes.csv",
    "lacking": 2,
    "problems": _problems([7], "none", None, "unknown label (votes.csv, row 9: 'jolly'; ...)"),
    "pseudo_labels": "filter",
    "weight": 1.234,
    "fold_weights": [1.0, 1.1, 0.0, 1.3, 1.2],
    "splits": {
        "train": {"clips": 390, "networks": 0.611, "labels": 0.622, "waf": 0.633},
        "unlabeled": {"clips": 700, "networks": 0.644, "labels": None, "waf": None},
        "test": {"clips": 200, "networks": 0.655, "labels": 0.666, "waf": 0.677},
    },
    "networks_alone": {"cv_waf": 0.755, "test_waf": 0.766},
    "with_votes": {"cv_waf": 0.811, "test_waf": 0.822},
}


@pytest.fixture
def metrics():
    return fake_metrics()


@pytest.fixture
def only_cv(metrics):
    """As little as a run can leave: no test labels, no self-training, no video, nothing optional recorded."""
    return {"dataset": metrics["dataset"], "cv": metrics["cv"]}
