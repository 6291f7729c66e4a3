"""Cross-validation, self-training's scoring and sweeps against a plain torch loop of the same model.

    python -m benchmarks.fusion [--repeats=3] [--epochs=8] [--clips=5030] [--candidates=20000] [--sweep_clips=2000]
    python -m benchmarks.fusion --streams_alone

Peer: torch, as the challenge's baseline does it: one fold at a time, epoch after epoch of shuffled batches, the
validation clips and all candidates scored in every epoch. Ours trains the folds with one program, one on each core, and
scores the candidates once, with each fold's best epoch. Equal work: the same model, batches and clips, and the same
deliverable, the ensemble's predictions of all candidates. Random features of the paper's widths; float32; all cores for
both; times are per fold and epoch, measured over a few epochs in alternation and, for the deliverable, multiplied by
the 30 epochs of a training. Last, twelve streams of public encoders' widths against the paper's four, both ours.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from absl import app, flags

from benchmarks.accelerator.sizes import HIDDEN, SWEEP_DIMS, random_clips, random_labels
from benchmarks.fusion_ours import Ours, random_settings
from benchmarks.fusion_peer import PlainLoop, take
from benchmarks.timing import against_peak, ratio, seconds_of, show
from benchmarks.work import CLASSES, DIMS, FOLDS, LABELLED, fusion_step_flops
from mer_jax.fusion.folds import make_folds

CLIPS = flags.DEFINE_integer("clips", LABELLED, "Labelled clips.")
CANDIDATES = flags.DEFINE_integer("candidates", 20_000, "Clips to predict.")
SWEEP_CLIPS = flags.DEFINE_integer("sweep_clips", 2000, "Labelled clips of the sweep.")
EPOCHS = flags.DEFINE_integer("epochs", 8, "Of ours in a timed call.")
STREAMS_ALONE = flags.DEFINE_bool("streams_alone", False, "Nothing but twelve streams against four.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Measured rounds, ours and the peer in turn.")
WHOLE_EPOCHS, SETTINGS = 30, 50  # the epochs of a training
STREAMS = {  # widths of public encoders whose features the challenge's baseline takes: four of each modality
    "speech": {"chinese-hubert-large": 1024, "wavlm-large": 1024, "wav2vec2-large": 1024, "whisper-large-v2": 1280},
    "image": {"clip-vit-large-patch14": 768, "dinov2-large": 1024, "videomae-large": 1024, "resnet50": 2048},
    "text": {
        "Baichuan-13B-Base": 5120,
        "bloom-7b1": 4096,
        "chinese-roberta-wwm-ext-large": 1024,
        "chinese-macbert": 1024,
    },
}


def limit(dims: Mapping[str, int], clips: int) -> float:
    """Seconds of a fold and epoch, were it nothing but its matrix products at the rate of a plain one."""
    trained = clips * (1 - 1 / FOLDS)
    return fusion_step_flops(dims, HIDDEN, CLASSES) * trained / against_peak({}, repeats=5)[1]


def cross_validation() -> list[dict[str, Any]]:
    """Five folds at the paper's widths; then all candidates."""
    ours, peer = rivals(DIMS, CLIPS.value)
    candidates = CANDIDATES.value
    unlabelled = random_clips(DIMS, candidates)
    present = {name: np.ones(candidates, bool) for name in DIMS}
    tensors = {name: torch.from_numpy(x) for name, x in unlabelled.items()}

    def score_candidates() -> None:
        peer.score(take(tensors, slice(start, start + 256)) for start in range(0, candidates, 256))

    compilation = seconds_of(lambda: ours.train([ours.setting()]))
    members = ours.train([ours.setting()])
    ours.scorer(members, unlabelled, present)
    peer.epoch()
    rows = []
    for _ in range(REPEATS.value):
        rows.append(
            (
                seconds_of(lambda: ours.train([ours.setting()])) / (FOLDS * EPOCHS.value),
                seconds_of(lambda: ours.scorer(members, unlabelled, present)),
                (seconds_of(peer.epoch) + seconds_of(peer.epoch)) / 2,
                seconds_of(score_candidates),
            )
        )
    train, score, peer_train, peer_score = np.array(rows).T
    fold_epochs = FOLDS * WHOLE_EPOCHS
    whole, peer_whole = train * fold_epochs + score, (peer_train + peer_score) * fold_epochs
    least, note = limit(DIMS, CLIPS.value), f"first call {compilation:.0f} s"
    return [
        row(f"training, {CLIPS.value} clips: a fold-epoch", train, peer_train, least, note),
        row(f"{candidates} candidates predicted", whole, peer_whole, least * fold_epochs),
    ]


def rivals(dims: Mapping[str, int], clips: int) -> tuple[Ours, PlainLoop]:
    """Both on the same random clips and folds."""
    features, labels = random_clips(dims, clips), random_labels(clips)
    fold_of = make_folds(labels, FOLDS, 0)
    return Ours(features, labels, fold_of, EPOCHS.value), PlainLoop(features, labels, fold_of)


def row(name: str, ours: np.ndarray, peers: np.ndarray, least: float, note: str = "") -> dict[str, Any]:
    """Of seconds round by round: medians, ratio and spread, beside the least that is possible."""
    return {
        "": name,
        "ours, s": round(float(np.median(ours)), 3),
        "torch, s": round(float(np.median(peers)), 3),
        **ratio(ours.tolist(), peers.tolist()),
        "matrix products alone, s": round(least, 3),
        "note": note,
    }


def sweep() -> list[dict[str, Any]]:
    """Fifty settings of five folds in one call."""
    ours, peer = rivals(SWEEP_DIMS, SWEEP_CLIPS.value)
    settings = random_settings(ours, SETTINGS)
    ours.train(settings)
    peer.epoch()
    rows = [
        (
            seconds_of(lambda: ours.train(settings)) / (SETTINGS * FOLDS * EPOCHS.value),
            sum(seconds_of(peer.epoch) for _ in range(5)) / 5,
        )
        for _ in range(REPEATS.value)
    ]
    train, peer_train = np.array(rows).T
    hours = [np.median(x) * SETTINGS * FOLDS * WHOLE_EPOCHS / 3600 for x in (train, peer_train)]
    note = f"the whole sweep of {WHOLE_EPOCHS} epochs: {hours[0]:.2f} h against {hours[1]:.2f} h"
    name = f"sweep of {SETTINGS} settings, {SWEEP_CLIPS.value} clips: a fold-epoch"
    return [row(name, train, peer_train, limit(SWEEP_DIMS, SWEEP_CLIPS.value), note)]


def streams() -> list[dict[str, Any]]:
    """Twelve streams of three modalities against the paper's four."""
    modality_of = {name: modality for modality, widths in STREAMS.items() for name in widths}
    widths = {name: width for own in STREAMS.values() for name, width in own.items()}
    labels = random_labels(CLIPS.value)
    fold_of = make_folds(labels, FOLDS, 0)
    four = Ours(random_clips(DIMS, CLIPS.value), labels, fold_of, EPOCHS.value)
    twelve = Ours(random_clips(widths, CLIPS.value), labels, fold_of, EPOCHS.value, modality_of)
    for each in (four, twelve):
        each.train([each.setting()])
    pairs = [
        (seconds_of(lambda: twelve.train([twelve.setting()])), seconds_of(lambda: four.train([four.setting()])))
        for _ in range(REPEATS.value)
    ]
    long, short = np.array(pairs).T / (FOLDS * EPOCHS.value)
    return [
        {
            "": f"training, {CLIPS.value} clips: a fold-epoch",
            "twelve streams, s": round(float(np.median(long)), 3),
            "four, s": round(float(np.median(short)), 3),
            "times the four's": round(float(np.median(long / short)), 2),
            "at most": round(float((long / short).max()), 2),
        }
    ]


def main(_: list[str]) -> None:
    """The benchmark."""
    if not STREAMS_ALONE.value:
        show(cross_validation() + sweep(), benchmark="fusion")
    show(streams(), benchmark="fusion, streams")


if __name__ == "__main__":
    app.run(main)
