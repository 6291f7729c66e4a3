"""Training data -> scores and predictions: every fold of every setting, side by side.

All settings share one compiled program; each has pseudo-labels of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mer_jax.fusion.data import Embeddings, FusionData, fill_slots, make_training_set
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.trainer import Fitted, FoldTrainer
from mer_jax.fusion.trials import FusionSettings, Setting, make_trials
from mer_jax.metrics import softmax, waf
from mer_jax.runtime.random import named_key
from mer_jax.self_training import PseudoLabels, SelfTrainingSettings, self_train


@dataclass(frozen=True)
class TrainedSetting:
    """One setting after one training."""

    setting: Setting
    fitted: Fitted  # leaves [F, ...]
    members: Members  # F networks
    unlabelled: np.ndarray  # [U, C] float64 probabilities of the ensemble
    test: np.ndarray  # [T, C]
    cv_waf: np.ndarray  # [F]
    test_waf: float | None  # None without known labels


class Networks:
    """The compiled parts: a trainer and a scorer for embeddings of one set of widths."""

    def __init__(self, dims: Mapping[str, int], num_classes: int, settings: FusionSettings):
        self.trainer = FoldTrainer(dims, num_classes, settings)
        self.scorer = Scorer(dims, num_classes, settings.hidden)


class CrossValidation:
    """Trains and scores settings on one data set, at most `num_settings` at once, of `room` pseudo-labels each."""

    def __init__(self, data: FusionData, networks: Networks, seed: int, num_settings: int, room: int):
        self.data = data
        self.networks = networks
        self.seed = seed
        self.room = room
        self.slots = room * num_settings
        labels = np.append(data.labels, data.labels[data.copy_of])
        self.training_set = make_training_set(*data.training, labels, self.slots)

    def train(
        self, settings: Sequence[Setting], pseudo: Mapping[str, PseudoLabels], number: int
    ) -> dict[str, TrainedSetting]:
        """Every setting from scratch; then all candidates are scored.

        pseudo: by a setting's name; one that is not in it has none. number: the round; 0 outside of self-training.
        """
        data, count = self.data, len(self.training_set.labels) - self.slots
        chosen = [pseudo.get(setting.name, PseudoLabels.none()) for setting in settings]
        clips = data.unlabelled.take(np.concatenate([each.indices for each in chosen]))
        labels = np.concatenate([each.labels for each in chosen])
        training_set = fill_slots(self.training_set, self.slots, clips, labels)
        ends = count + np.cumsum([len(each) for each in chosen])
        extra = [np.arange(end - len(each), end) for end, each in zip(ends, chosen, strict=True)]
        key = named_key(self.seed, "fusion", number)
        trials = make_trials(data.fold_of, key, settings, self.room, extra, data.copy_of)
        fitted = jax.block_until_ready(self.networks.trainer.train(training_set, trials))
        members = Members(fitted.params, trials.fold, trials.sees)
        unlabelled, test = self.ensembles(members, data.unlabelled), self.ensembles(members, data.test)
        trained = {}
        for i, setting in enumerate(settings):
            folds = slice(i * data.num_folds, (i + 1) * data.num_folds)
            own_fitted, own_members = jax.tree.map(lambda x, folds=folds: x[folds], (fitted, members))
            cv_waf = np.asarray(own_fitted.validation_waf).max(axis=1)
            trained[setting.name] = TrainedSetting(
                setting, own_fitted, own_members, unlabelled[i], test[i], cv_waf, self.test_waf(test[i])
            )
        return trained

    def self_train(
        self,
        settings: Sequence[Setting],
        self_training: SelfTrainingSettings,
        folder: Path,
        unimodal: np.ndarray | None = None,
        advance: Callable[[int], object] = lambda count: None,
    ) -> tuple[list[dict[str, Any]], dict[str, TrainedSetting]]:
        """`mer_jax.self_training.self_train` of settings: all rounds, and the final training."""
        names, present = [setting.name for setting in settings], np.stack([*self.data.unlabelled.present.values()])
        train = partial(self.train, settings)
        return self_train(train, names, self_training, present, folder, unimodal=unimodal, advance=advance)

    def ensembles(self, members: Members, clips: Embeddings) -> np.ndarray:
        """Probabilities [S, N, C] float64 of the mean logits over each setting's folds; N may be 0.

        In float32 the surest clips all have probability 1, and self-training could not rank them.
        """
        num_folds, scorer = self.data.num_folds, self.networks.scorer
        if len(next(iter(clips.present.values()))) == 0:
            return np.zeros((len(members.fold) // num_folds, 0, scorer.num_classes))
        logits = scorer(members, *clips).logits  # [S * F, N, C]
        return softmax(logits.reshape(-1, num_folds, *logits.shape[1:]).mean(axis=1, dtype=np.float64))

    def held_out(self, trained: TrainedSetting) -> np.ndarray:
        """Probabilities [L, C] of the labelled clips, each clip's from the fold that held it out."""
        logits = np.asarray(trained.fitted.validation_logits)
        probs = np.zeros((len(self.data.labels), logits.shape[-1]), np.float32)
        for fold, clips in self.by_fold():
            probs[clips] = softmax(logits[fold, : clips.sum()])
        return probs

    def waf_given(self, trained: TrainedSetting, modalities: Sequence[str]) -> dict[str, float | None]:
        """Cross-validated and test WAF of a setting when only some modalities are present."""
        data = self.data
        logits = self.networks.scorer(trained.members, *data.labelled.only(modalities)).logits
        folds = [waf(data.labels[clips], logits[fold, clips]) for fold, clips in self.by_fold()]
        (test,) = self.ensembles(trained.members, data.test.only(modalities))
        return {"cv_waf": float(np.mean(folds)), "test_waf": self.test_waf(test)}

    def by_fold(self) -> list[tuple[int, np.ndarray]]:
        """Each fold with the mask [L] of the clips it holds out."""
        return [(fold, self.data.fold_of == fold) for fold in range(self.data.num_folds)]

    def test_waf(self, probs: np.ndarray) -> float | None:
        """WAF of probabilities [T, C] on the test clips whose label is known; None if there are none."""
        known = self.data.test_truth >= 0
        return waf(self.data.test_truth[known], probs[known]) if known.any() else None
