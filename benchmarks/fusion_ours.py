"""Our training of the fusion head on random clips, as the benchmarks measure it."""

from collections.abc import Mapping

import jax
import numpy as np

from benchmarks.accelerator.sizes import BATCH, HIDDEN
from benchmarks.work import CLASSES
from mer_jax.fusion.data import make_training_set
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trainer import Fitted, FoldTrainer
from mer_jax.fusion.trials import Setting, make_trials
from mer_jax.runtime.random import named_key


class Ours:
    """FoldTrainer on the same clips as the peer."""

    def __init__(
        self,
        features: Mapping[str, np.ndarray],
        labels: np.ndarray,
        fold_of: np.ndarray,
        epochs: int,
        modality_of: Mapping[str, str] | None = None,
    ):
        dims = {name: x.shape[1] for name, x in features.items()}
        present = {name: np.ones(len(labels), bool) for name in features}
        self.settings = FusionSettings(hidden=HIDDEN, batch_size=BATCH, epochs=epochs)
        self.modality_of = modality_of or dict(zip(dims, dims, strict=True))
        self.trainer = FoldTrainer(dims, CLASSES, self.settings, modality_of=self.modality_of)
        self.scorer = Scorer(dims, CLASSES, HIDDEN)
        self.training_set = make_training_set(features, present, labels)
        self.fold_of = fold_of

    def setting(self, **changes: float) -> Setting:
        """All modalities, with some hyperparameters changed."""
        return Setting.of("", self.settings, tuple(self.modality_of.values()), 0, **changes)

    def fit(self, settings: list[Setting]) -> tuple[Fitted, Members]:
        """All trials of the settings, and the networks that predict."""
        trials = make_trials(self.fold_of, named_key(0, "benchmark"), settings, modality_of=self.modality_of)
        fitted = jax.block_until_ready(self.trainer.train(self.training_set, trials))
        return fitted, Members(fitted.best.params, trials.fold, trials.sees)

    def train(self, settings: list[Setting]) -> Members:
        """The networks that predict."""
        return self.fit(settings)[1]


def random_settings(ours: Ours, count: int) -> list[Setting]:
    """Of a sweep over the learning rate and modality dropout."""
    rng = np.random.default_rng(2)
    return [
        ours.setting(learning_rate=float(rate), modality_dropout=float(drop))
        for rate, drop in zip(10 ** rng.uniform(-4, -2.5, count), rng.uniform(0, 0.5, count), strict=True)
    ]
