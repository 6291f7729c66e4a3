"""Cross-validation, self-training's scoring and sweeps against a plain torch loop of the same model.

    python -m benchmarks.fusion [--repeats=3] [--epochs=8] [--clips=5030] [--candidates=20000] [--sweep_clips=2000]

Peer: torch, as the challenge's baseline does it: one fold at a time, epoch after epoch of shuffled batches, the
validation clips and all candidates scored in every epoch. Ours trains the folds with one program, one on each core, and
scores the candidates once, with each fold's best epoch. Equal work: the same model, batches and clips, and the same
deliverable, the ensemble's predictions of all candidates. Random features of the paper's widths; float32; all cores for
both; times are per fold and epoch, measured over a few epochs in alternation and, for the deliverable, multiplied by
the 30 epochs of a training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch
from absl import app, flags
from torch import nn

from benchmarks.timing import against_peak, ratio, seconds_of, show
from benchmarks.work import CLASSES, DIMS, FOLDS, LABELLED, fusion_step_flops
from mer_jax.fusion.data import make_training_set
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trainer import FoldTrainer
from mer_jax.fusion.trials import Setting, make_trials
from mer_jax.runtime.random import named_key

CLIPS = flags.DEFINE_integer("clips", LABELLED, "Labelled clips.")
CANDIDATES = flags.DEFINE_integer("candidates", 20_000, "Clips to predict.")
SWEEP_CLIPS = flags.DEFINE_integer("sweep_clips", 2000, "Labelled clips of the sweep.")
EPOCHS = flags.DEFINE_integer("epochs", 8, "Of ours in a timed call.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Measured rounds, ours and the peer in turn.")
SWEEP_DIMS = {"speech": 1024, "image": 768, "text": 768, "video": 768}
HIDDEN, BATCH, WHOLE_EPOCHS, SETTINGS = 128, 64, 30, 50  # the epochs of a training


class Peer(nn.Module):
    """The attention model in plain torch."""

    def __init__(self, dims: Mapping[str, int]):
        super().__init__()
        self.encoders = nn.ModuleDict({name: mlp(width) for name, width in dims.items()})
        self.scorer = mlp(HIDDEN * len(dims))
        self.attention = nn.Linear(HIDDEN, len(dims))
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, embeddings: Mapping[str, torch.Tensor]) -> torch.Tensor:
        encoded = []
        for name, encoder in self.encoders.items():
            x = embeddings[name]
            if self.training:
                x = x * (torch.rand(len(x), 1) >= 0.3)
            encoded.append(encoder(x))
        attention = self.attention(self.scorer(torch.cat(encoded, dim=1)))
        return self.classifier((torch.stack(encoded, dim=2) @ attention[:, :, None])[:, :, 0])


def mlp(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(0.3)]
    for inputs in (width, HIDDEN, HIDDEN):
        layers += [nn.Linear(inputs, HIDDEN), nn.ReLU()]
    return nn.Sequential(*layers)


class PlainLoop:
    """The peer's training of one fold."""

    def __init__(self, features: Mapping[str, np.ndarray], labels: np.ndarray, fold_of: np.ndarray):
        self.features = {name: torch.from_numpy(x) for name, x in features.items()}
        self.labels, self.fold_of = torch.from_numpy(labels), torch.from_numpy(fold_of)
        self.model = Peer({name: x.shape[1] for name, x in features.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4, weight_decay=1e-5)

    def epoch(self, fold: int = 0) -> None:
        """Trains once over the fold's clips and scores the held-out ones."""
        self.model.train()
        train = torch.nonzero(self.fold_of != fold)[:, 0]
        for index in train[torch.randperm(len(train))].split(BATCH):
            loss = nn.functional.cross_entropy(self.model(take(self.features, index)), self.labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        held_out = torch.nonzero(self.fold_of == fold)[:, 0]
        self.score(take(self.features, index) for index in held_out.split(256))

    @torch.no_grad()
    def score(self, batches: Iterator[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        self.model.eval()
        return torch.cat([self.model(batch) for batch in batches])


def take(features: Mapping[str, torch.Tensor], index: torch.Tensor | slice) -> dict[str, torch.Tensor]:
    return {name: x[index] for name, x in features.items()}


def random_clips(dims: Mapping[str, int], clips: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((clips, width), np.float32) for name, width in dims.items()}


class Ours:
    """FoldTrainer on the same clips, warmed up: `train` is a call without compilation."""

    def __init__(self, features: Mapping[str, np.ndarray], labels: np.ndarray, fold_of: np.ndarray, epochs: int):
        dims = {name: x.shape[1] for name, x in features.items()}
        present = {name: np.ones(len(labels), bool) for name in features}
        self.settings = FusionSettings(hidden=HIDDEN, batch_size=BATCH, epochs=epochs)
        self.trainer = FoldTrainer(dims, CLASSES, self.settings)
        self.scorer = Scorer(dims, CLASSES, HIDDEN)
        self.training_set = make_training_set(features, present, labels)
        self.fold_of = fold_of

    def setting(self, **changes: float) -> Setting:
        """All modalities, with some hyperparameters changed."""
        return Setting.of("", self.settings, tuple(self.trainer.dims), 0, **changes)

    def train(self, settings: list[Setting]) -> Members:
        trials = make_trials(self.fold_of, named_key(0, "benchmark"), settings)
        fitted = jax.block_until_ready(self.trainer.train(self.training_set, trials))
        return Members(fitted.best.params, trials.fold, trials.sees)


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
    features, labels = random_clips(dims, clips), np.random.default_rng(1).integers(CLASSES, size=clips)
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
    rng = np.random.default_rng(2)
    settings = [
        ours.setting(learning_rate=float(rate), modality_dropout=float(drop))
        for rate, drop in zip(10 ** rng.uniform(-4, -2.5, SETTINGS), rng.uniform(0, 0.5, SETTINGS), strict=True)
    ]
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


def main(_: list[str]) -> None:
    """The benchmark."""
    show(cross_validation() + sweep(), benchmark="fusion")


if __name__ == "__main__":
    app.run(main)
