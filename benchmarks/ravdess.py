"""Fusion of real speech and facial action units (RAVDESS).

    python -m benchmarks.ravdess --root=DIR [--splits=5]

Peers: either modality alone, and logistic regression, whose C is tuned inside the training folds. Equal work: the same
clips, features and folds. DIR: media/, clips.csv (name, emotion6, actor) and features/openface-au/*.npy of RAVDESS
(Livingstone and Russo 2018). Speech is the mean and variance of log-mel bands. Weighted F1, mean of five actor-disjoint
folds, over several draws of the folds. Honest: of networks that no held-out clip has chosen, the last epoch's or those
of averaged weights. As the challenge counts: at the best epoch on the held-out fold.
"""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from absl import app, flags
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from benchmarks.timing import show
from configs.best import get_config as get_best_config
from configs.semi import get_config
from mer_jax.data.clips import Dataset
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.media import read_sound
from mer_jax.features.embeddings import Features
from mer_jax.features.ready_made import load_ready_made
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import FusionData, fusion_data
from mer_jax.fusion.folds import FoldSettings, run_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.metrics import waf
from mer_jax.report.formats import MISSING

ROOT = flags.DEFINE_string("root", None, "Folder of the data set.", required=True)
SPLITS = flags.DEFINE_integer("splits", 5, "Draws of the folds.")
RATE, BANDS, FOLDS = 16_000, 64, 5
REGRESSED = ("paper", "and within groups")  # the recipes whose features differ


def bands_of(path: Path) -> np.ndarray:
    """Log-mel bands [BANDS, T]."""
    filters = mel_filter_bank(257, BANDS, 50.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")
    sound = read_sound(path, RATE).astype(np.float32) / 32768
    window = window_function(400, "hann")
    return spectrogram(sound, window, 400, 160, 512, power=2.0, mel_filters=filters, log_mel="log", mel_floor=1e-8)


def log_mel(path: Path | None) -> np.ndarray:
    """Mean and variance over time, [2 * BANDS]."""
    assert path
    bands = bands_of(path)
    return np.concatenate([bands.mean(axis=1), bands.var(axis=1)]).astype(np.float32)


def logistic_regression(data: FusionData, modalities: Sequence[str]) -> float:
    """Mean WAF of the held-out folds, with the C that is best by the actors of the other folds."""
    x = np.concatenate([np.asarray(data.labelled.features[modality]) for modality in modalities], axis=1)
    scores = []
    for held_out in data.held_out:
        inner = GroupKFold(FOLDS - 1).split(x[~held_out], groups=data.groups.labelled[~held_out])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        grid = {"logisticregression__C": np.logspace(-4, 1, 11)}
        search = GridSearchCV(model, grid, scoring="f1_weighted", cv=list(inner), n_jobs=-1)
        search.fit(x[~held_out], data.labels[~held_out])
        scores.append(waf(data.labels[held_out], search.predict_proba(x[held_out])))
    return float(np.mean(scores))


def read_features(scratch: Path) -> tuple[Dataset, dict[str, Features]]:
    """The clips, and both modalities of them."""
    columns = {**dict(zip(COLUMNS, COLUMNS, strict=True)), "label": "emotion6", "group": "actor"}
    dataset = read_folder(Path(ROOT.value), columns, {"image": "openface-au"})
    speech = np.stack([log_mel(clip.media) for clip in dataset.clips])
    units = load_ready_made(dataset.clips, "image", scratch, ExtractionSettings())
    return dataset, {"speech": Features(speech, np.ones(len(speech), bool), {}), "image": units}


def recipes() -> dict[str, FusionSettings]:
    """The paper's training, then the parts of the recipe one after the other."""
    small, best = get_config().fusion, get_best_config().fusion
    paper = FusionSettings(hidden=small.hidden, learning_rate=small.learning_rate)
    averaged = replace(paper, network=best.network)
    seeds = replace(averaged, seeds=best.seeds)
    longer = replace(seeds, epochs=best.epochs)
    return {
        "paper": paper,
        "averaged weights": averaged,
        f"and {best.seeds} seeds a fold": seeds,
        f"and {best.epochs} epochs": longer,
        "and within groups": replace(longer, standardise=best.standardise),
    }


def compare(dataset: Dataset, features: Mapping[str, Features], scratch: Path) -> None:
    """Prints a table and a line of JSON."""
    parts = [("speech",), ("image",), ("speech", "image")]
    scores: dict[tuple[str, str], list[tuple]] = defaultdict(list)
    networks: dict[FusionSettings, Networks] = {}
    for split in range(SPLITS.value):
        folds = run_folds(dataset, FoldSettings(FOLDS), split, scratch)
        for recipe, settings in recipes().items():
            data, _ = fusion_data(dataset, features, folds, np.zeros(0, int), settings.standardise)
            if settings not in networks:
                networks[settings] = Networks(data.dims, len(dataset.labels), settings)
            rates = {part: 0.0 if len(part) == 1 else settings.modality_dropout for part in parts}
            table = [Setting.of("+".join(p), settings, p, modality_dropout=rate) for p, rate in rates.items()]
            fusion = CrossValidation(data, networks[settings], split)
            trained = fusion.train(table)
            fused = trained["speech+image"]
            for part in parts:
                own = trained["+".join(part)]
                given = fusion.waf_given(fused, part)["cv_waf"]
                regression = logistic_regression(data, part) if recipe in REGRESSED else np.nan
                row = (own.cv_waf.mean(), own.challenge_waf.mean(), given, regression)
                scores[recipe, own.setting.name].append(row)
    show([row_of(*key, np.array(rows)) for key, rows in scores.items()], clips=len(dataset.clips), splits=SPLITS.value)


def row_of(recipe: str, modalities: str, scores: np.ndarray) -> dict[str, str]:
    """scores: [splits, 4]."""
    names = ("honest", "as the challenge counts", "the fused network, shown these", "logistic regression, tuned C")
    return {"recipe": recipe, "WAF, %": modalities} | dict(zip(names, map(spread, scores.T), strict=True))


def spread(scores: np.ndarray) -> str:
    """Mean and standard deviation over draws of the folds."""
    return MISSING if np.isnan(scores).any() else f"{100 * scores.mean():.1f} ± {100 * scores.std():.1f}"


def main(_: list[str]) -> None:
    """The benchmark."""
    with tempfile.TemporaryDirectory() as scratch:
        compare(*read_features(Path(scratch)), Path(scratch))


if __name__ == "__main__":
    app.run(main)
