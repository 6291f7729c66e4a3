"""Fusion of real speech and facial action units (RAVDESS).

    python -m benchmarks.ravdess --root=DIR [--seeds=5]

Peers: either modality alone, and logistic regression. Equal work: the same clips, features and folds. DIR: media/,
clips.csv (name, emotion6, actor) and features/openface-au/*.npy of RAVDESS (Livingstone and Russo 2018). Speech is the
mean and variance of log-mel bands. Weighted F1, mean of five actor-disjoint folds, the same for all; a network is taken
at its best epoch on the held-out fold, as the challenge's baseline does, at the epoch that the other folds would choose
for it, and at its last.
"""

import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from benchmarks.timing import show
from configs.semi import get_config
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.media import read_sound
from mer_jax.features.embeddings import Features
from mer_jax.features.ready_made import load_ready_made
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import FusionData, fusion_data
from mer_jax.fusion.folds import FoldSettings, run_folds
from mer_jax.fusion.trials import FusionSettings, Setting
from mer_jax.metrics import waf

ROOT = flags.DEFINE_string("root", None, "Folder of the data set.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 5, "Trainings of each network.")
RATE, BANDS, FOLDS = 16_000, 64, 5


def log_mel(path: Path | None) -> np.ndarray:
    """Mean and variance over time, [2 * BANDS]."""
    filters = mel_filter_bank(257, BANDS, 50.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")
    assert path
    sound = read_sound(path, RATE).astype(np.float32) / 32768
    window = window_function(400, "hann")
    bands = spectrogram(sound, window, 400, 160, 512, power=2.0, mel_filters=filters, log_mel="log", mel_floor=1e-8)
    return np.concatenate([bands.mean(axis=1), bands.var(axis=1)]).astype(np.float32)


def logistic_regression(x: np.ndarray, labels: np.ndarray, fold_of: np.ndarray) -> float:
    """Mean WAF of the held-out folds."""
    scores = []
    for fold in range(FOLDS):
        held_out = fold_of == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(x[~held_out], labels[~held_out])
        scores.append(waf(labels[held_out], model.predict_proba(x[held_out])))
    return float(np.mean(scores))


def read_data(scratch: Path) -> FusionData:
    """Both modalities of the labelled clips with their folds."""
    columns = {**dict(zip(COLUMNS, COLUMNS, strict=True)), "label": "emotion6", "group": "actor"}
    dataset = read_folder(Path(ROOT.value), columns, {"image": "openface-au"})
    folds = run_folds(dataset, FoldSettings(FOLDS), 0, scratch)
    speech = np.stack([log_mel(clip.media) for clip in dataset.clips])
    units = load_ready_made(dataset.clips, "image", scratch, ExtractionSettings())
    features = {"speech": Features(speech, np.ones(len(speech), bool), {}), "image": units}
    return fusion_data(dataset, features, folds, np.zeros(0, int), standardise=True)[0]


def compare(data: FusionData) -> None:
    """Prints a table and a line of JSON."""
    small = get_config().fusion
    fusion_settings = FusionSettings(hidden=small.hidden, learning_rate=small.learning_rate)
    rows = {("speech",): 0.0, ("image",): 0.0, ("speech", "image"): fusion_settings.modality_dropout}
    settings = [
        Setting.of(f"{'+'.join(seen)}, seed {seed}", fusion_settings, seen, seed, modality_dropout=rate)
        for seen, rate in rows.items()
        for seed in range(SEEDS.value)
    ]
    networks = Networks(data.dims, int(data.labels.max()) + 1, fusion_settings)
    trained = CrossValidation(data, networks, 0, len(settings), 0).train(settings, {}, 0)
    curves = np.stack([np.asarray(each.fitted.validation_waf) for each in trained.values()])
    curves = curves.reshape(len(rows), SEEDS.value, FOLDS, fusion_settings.epochs)
    table = []
    for seen, curve in zip(rows, curves, strict=True):
        x = np.concatenate([np.asarray(data.labelled.features[modality]) for modality in seen], axis=1)
        table.append(
            {
                "WAF, %": " + ".join(seen),
                "best epoch": spread(curve.max(axis=-1)),
                "epoch of the other folds": spread(chosen_elsewhere(curve)),
                "last epoch": spread(curve[..., -1]),
                "logistic regression": round(100 * logistic_regression(x, data.labels, data.fold_of), 1),
            }
        )
    show(table, clips=len(data.labels), seeds=SEEDS.value)


def chosen_elsewhere(curve: np.ndarray) -> np.ndarray:
    """[seeds, folds] of curves [seeds, folds, epochs]: each fold at the epoch best for the mean of the others."""
    others = curve.sum(axis=1, keepdims=True) - curve
    return np.take_along_axis(curve, others.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def spread(scores: np.ndarray) -> str:
    """Mean and standard deviation over seeds of the folds' mean; scores [seeds, folds]."""
    each = 100 * scores.mean(axis=1)
    return f"{each.mean():.1f} ± {each.std():.1f}"


def main(_: list[str]) -> None:
    """The benchmark."""
    with tempfile.TemporaryDirectory() as scratch:
        compare(read_data(Path(scratch)))


if __name__ == "__main__":
    app.run(main)
