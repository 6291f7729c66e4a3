"""Training data -> scores and predictions: every fold of every setting, side by side.

All settings share one compiled program; each has pseudo-labels of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.fusion.calibration import calibrated, fit_temperatures
from mer_jax.fusion.data import Embeddings, FusionData, fill_slots, make_training_set
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trainer import Fitted, FoldTrainer
from mer_jax.fusion.trials import Setting, Trials, make_trials, self_trained
from mer_jax.fusion.votes import VoteWeights
from mer_jax.metrics import softmax, subsets_of, waf
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import digest_of
from mer_jax.runtime.random import named_key
from mer_jax.runtime.scalars import Scalars
from mer_jax.self_training import Candidates, PseudoLabels, all_agree, self_train
from mer_jax.self_training_settings import OWN_FOLD, SelfTrainingSettings


@dataclass(frozen=True)
class TrainedSetting:
    """One setting after one training, N networks of each fold."""

    setting: Setting
    fitted: Fitted  # leaves [F * N, ...], folds first
    members: Members  # the F * N networks that predict
    blind_members: Members  # and those of the final epochs, which no held-out clip has chosen
    unlabelled: np.ndarray  # [F, U, C] float64 logits of each fold, mean over its `members`
    test: np.ndarray  # [F, T, C]
    cv_waf: np.ndarray  # [F], the honest one
    challenge_waf: np.ndarray  # [F], as the challenge counts: each network at the epoch that is best by held-out clips
    test_waf: float | None  # of the ensemble; None without known labels
    twin: "TrainedSetting | None" = None  # what is scored in its place, where that would flatter
    votes: VoteWeights | None = None  # see `CrossValidation.with_votes`
    divergence: str = ""  # where its numbers ceased to be finite, if they did; its scores are no numbers then

    def check(self) -> None:
        """Raises DataError where it, or its twin, has diverged: nothing is to be predicted from it."""
        if divergence := self.diverged:
            rate = float(self.setting.hyperparameters.learning_rate)
            raise DataError(
                f"the training of fusion has diverged ({self.setting.name}, {divergence}): "
                f"lower fusion.learning_rate, which is {rate:g}"
            )

    @property
    def diverged(self) -> str:
        """Where it or its twin has diverged; empty if neither has."""
        return self.divergence or self.honest.divergence

    @property
    def honest(self) -> "TrainedSetting":
        """Itself, or its blind twin."""
        return self.twin or self


class Networks:
    """The compiled parts: a trainer and a scorer for embeddings of one set of widths."""

    def __init__(
        self,
        dims: Mapping[str, int],
        num_classes: int,
        settings: FusionSettings,
        modality_of: Mapping[str, str] | None = None,
    ):
        self.trainer = FoldTrainer(dims, num_classes, settings, modality_of=modality_of)
        self.scorer = Scorer(dims, num_classes, settings.hidden, modality_of=modality_of)
        self.num_classes = num_classes
        self.seeds = settings.seeds


class CrossValidation:
    """Trains and scores settings on one data set: those to self-train with their twins, and others without.

    Args:
        seed: of the run.
        settings: to self-train.
        self_training: how; its slots for pseudo-labels are part of every training's shapes. None trains without.
    """

    def __init__(
        self,
        data: FusionData,
        networks: Networks,
        seed: int,
        settings: Sequence[Setting] = (),
        self_training: SelfTrainingSettings | None = None,
    ):
        self.data = data
        self.networks = networks
        self.seed = seed
        self.self_training = self_training or SelfTrainingSettings(rounds=0)
        rounds = self.self_training.rounds
        self.settings = self_trained(settings, self.self_training.chooser) if rounds else list(settings)
        self.twins = {setting.name for setting in self.settings[len(settings) :]}
        self.room = min(self.self_training.slots(networks.num_classes), len(data.unlabelled_truth))
        choices = [data.num_folds if setting.chooser == OWN_FOLD else 1 for setting in self.settings]
        self.slots = self.room * sum(choices)
        labels = np.append(data.labels, data.labels[data.copy_of])
        self.training_set = make_training_set(data.training.features, data.training.present, labels, self.slots)

    def train(
        self, settings: Sequence[Setting], pseudo: Mapping[str, Sequence[PseudoLabels]] | None = None, number: int = 0
    ) -> dict[str, TrainedSetting]:
        """Every setting from scratch; then all candidates are scored.

        Args:
            pseudo: by a setting's name, of each fold or of all; one that is not in it has none.
            number: the round; 0 outside of self-training.
        """
        data, count = self.data, len(self.training_set.labels) - self.slots
        chosen = [(pseudo or {}).get(setting.name, [PseudoLabels.none()]) for setting in settings]
        everything = sum((labels for each in chosen for labels in each), PseudoLabels.none())
        clips = data.unlabelled.take(everything.indices)
        weight = self.self_training.weight
        training_set = fill_slots(self.training_set, self.slots, clips, everything.labels, weight)
        extra = []
        for each in chosen:
            ends = count + np.cumsum([len(labels) for labels in each])
            extra.append([np.arange(end - len(labels), end) for end, labels in zip(ends, each, strict=True)])
            count = ends[-1]
        trials = self.trials(settings, extra, number)
        fitted = jax.block_until_ready(self.networks.trainer.train(training_set, trials))

        size = data.num_folds * self.networks.seeds
        best = jnp.repeat(jnp.array([setting.best_epoch for setting in settings]), size)
        blind = Members(fitted.final.params, trials.fold, trials.sees)
        params = jax.tree.map(
            lambda x, y: jnp.where(best.reshape(-1, *[1] * (x.ndim - 1)), x, y), fitted.best.params, blind.params
        )
        members = blind._replace(params=params)
        unlabelled, test = self.fold_logits(members, data.unlabelled), self.fold_logits(members, data.test)
        trained: dict[str, TrainedSetting] = {}
        for i, setting in reversed(list(enumerate(settings))):  # twins stand behind
            own = slice(i * size, (i + 1) * size)
            own_fitted, own_members, own_blind = jax.tree.map(lambda x, own=own: x[own], (fitted, members, blind))
            twin = trained.get(setting.twin.name)
            best_waf = np.asarray(own_fitted.validation_waf).max(axis=1)
            divergence = self.divergence(own_fitted, unlabelled[i], test[i])
            real = np.nan if divergence else 1.0
            trained[setting.name] = TrainedSetting(
                setting,
                own_fitted,
                own_members,
                own_blind,
                unlabelled[i],
                test[i],
                twin.cv_waf if twin else real * self.fold_wafs(self.held_out_logits(own_fitted)),
                real * best_waf.reshape(data.num_folds, -1).mean(axis=1),
                None if divergence else self.test_waf(test[i].mean(axis=0)),
                twin,
                divergence=divergence,
            )
        return {setting.name: trained[setting.name] for setting in settings}

    def trials(self, settings: Sequence[Setting], extra: Any = None, number: int = 0) -> Trials:
        """The trainings of the settings in a round. extra: as of `make_trials`."""
        data, key, seeds = self.data, named_key(self.seed, "fusion", number), self.networks.seeds
        return make_trials(
            *(data.fold_of, key, settings, self.room, extra, data.copy_of, seeds),
            shown=data.shown,
            modality_of=data.modality_of,
        )

    def logits_without(self, settings: Sequence[Setting], fold: int) -> np.ndarray:
        """`held_out_logits` [S, L, C] of networks without pseudo-labels that have seen no clip of `fold`, either.

        By these logits something may be chosen that is then scored on the clips of `fold`: they had no say in it; what
        stands at these themselves is of no use. The networks read the embeddings that are `fold`'s own (EmoVCLIP's
        prompts), which know the other folds' labels. NaN where a setting has diverged, or no clip is left to learn.
        """
        data, trials = self.data, self.trials(settings)
        gone = np.flatnonzero(np.append(data.fold_of, data.fold_of[data.copy_of]) == fold)
        train = jnp.where(jnp.isin(trials.train, gone), -1, trials.train)
        trials = trials._replace(train=train, fold=jnp.full_like(trials.fold, fold))
        fitted = jax.block_until_ready(self.networks.trainer.train(self.training_set, trials))
        size, logits = data.num_folds * self.networks.seeds, []
        for i in range(len(settings)):
            own = jax.tree.map(lambda x, i=i: x[i * size : (i + 1) * size], fitted)
            logits.append(self.held_out_logits(own) * (np.nan if self.divergence(own) else 1.0))
        return np.stack(logits)

    def waf_without(self, settings: Sequence[Setting], fold: int) -> np.ndarray:
        """WAF [S, F] of each fold's held-out clips by `logits_without`; nan at `fold`."""
        logits = self.logits_without(settings, fold)
        wafs = [np.nan if np.isnan(own).any() else self.fold_wafs(own) for own in logits]
        return np.where(np.arange(self.data.num_folds) == fold, np.nan, np.stack(wafs))

    def divergence(self, fitted: Fitted, *logits: np.ndarray) -> str:
        """Where the loss or the logits of a setting's networks are not finite; empty if all are."""
        diverged = np.argwhere(~np.isfinite(np.asarray(fitted.train_loss)))
        if len(diverged):
            network, epoch = diverged[0]
            return f"fold {network // self.networks.seeds + 1}, epoch {epoch + 1}: the loss is not finite"
        arrays = (np.asarray(fitted.final.validation_logits), *logits)
        return "" if all(np.isfinite(each).all() for each in arrays) else "its logits are not finite"

    def self_train(
        self,
        folder: Path,
        advance: Callable[[int], object] = lambda count: None,
        needed: str = "",
        curves: Scalars | None = None,
    ) -> tuple[list[dict[str, Any]], Mapping[str, TrainedSetting]]:
        """`mer_jax.self_training.self_train` of the settings and their twins: all rounds, and the final training.

        needed: name of the setting that may not diverge; others that do have no scores.
        curves: get loss and WAF of each epoch of every training of the first setting, means over its networks.

        Raises:
            DataError: that one has.
        """

        def train(pseudo: Mapping[str, Sequence[PseudoLabels]], number: int) -> Mapping[str, TrainedSetting]:
            trained = self.train(self.settings, pseudo, number)
            if needed:
                trained[needed].check()
            if curves:
                fitted = trained[self.settings[0].name].fitted
                curves.write(f"fusion {number}/loss", fitted.train_loss)
                curves.write(f"fusion {number}/WAF", fitted.validation_waf)
            return trained

        names = [setting.name for setting in self.settings]
        shared = self.networks.trainer.settings
        made_of = digest_of(self.data.digest, self.seed, self.settings, shared, self.self_training, *shared.later)
        voters = self.voters() if self.self_training.agreement and self.self_training.rounds else None
        candidates = partial(self.candidates, unimodal=voters)
        return self_train(train, candidates, names, self.self_training, folder, made_of, advance=advance)

    def voters(self) -> np.ndarray:
        """Logits [M, F, U, C] of networks that see one modality and that no held-out clip has chosen, for agreement."""
        first, modalities = self.settings[0], self.data.modalities
        alone = first.hyperparameters._replace(modality_dropout=0.0)
        table = [replace(first, name=name, modalities=(name,), hyperparameters=alone).twin for name in modalities]
        return np.stack([voter.unlabelled for voter in self.train(table).values()])

    def candidates(self, trained: TrainedSetting, unimodal: np.ndarray | None = None) -> Candidates:
        """Among what, and by what confidence, the next pseudo-labels are chosen: for each fold, or for all of them.

        unimodal: as of `voters`. A twin's confidence is never calibrated: the networks whose held-out clips would say
        how have learned from the clips that the fold itself holds out.
        """
        data = self.data
        logits = np.zeros_like(trained.unlabelled) if trained.divergence else trained.unlabelled  # [F, U, C]
        blind = trained.setting.chooser == OWN_FOLD
        eligible = np.broadcast_to(data.usable & (not trained.divergence), logits.shape[:2])
        if blind:
            eligible = eligible & data.strangers
        else:
            logits, eligible = logits.mean(axis=0, keepdims=True), eligible[:1]
            unimodal = None if unimodal is None else unimodal.mean(axis=1, keepdims=True)
        used = data.held_out if blind else np.zeros((1, len(data.labels)), bool)
        if unimodal is not None:
            present = np.stack([*data.unlabelled.modalities_present.values()])
            agree = [all_agree(own, unimodal[:, i], present) for i, own in enumerate(logits)]
            eligible = eligible & np.stack(agree)
        if data.votes:
            logits, eligible = data.votes.for_choice(logits, eligible, data.labels, used)
        if not self.self_training.calibrated or trained.setting.name in self.twins or trained.divergence:
            return Candidates(softmax(logits), eligible)
        temperatures = [self.temperatures(trained, ~held_out) for held_out in used]
        present_count = data.unlabelled.only(trained.setting.modalities).present_count
        probs = [calibrated(own, present_count, each) for own, each in zip(logits, temperatures, strict=True)]
        return Candidates(np.stack(probs), eligible)

    def fold_logits(self, members: Members, clips: Embeddings) -> np.ndarray:
        """Logits [S, F, N, C] float64 of each setting's folds, mean over a fold's networks; N may be 0.

        In float32 the surest clips all have probability 1, and self-training could not rank them.
        """
        folds, seeds, scorer = self.data.num_folds, self.networks.seeds, self.networks.scorer
        settings = len(members.fold) // (folds * seeds)
        if len(next(iter(clips.present.values()))) == 0:
            return np.zeros((settings, folds, 0, self.networks.num_classes))
        logits = scorer(members, clips.features, clips.present).logits  # [S * F * seeds, N, C]
        return logits.reshape(settings, folds, seeds, *logits.shape[1:]).mean(axis=2, dtype=np.float64)

    def held_out_logits(self, fitted: Fitted) -> np.ndarray:
        """Logits [L, C] of the labelled clips, each clip's from the networks of the fold that held it out.

        By what is shown of them, see `FusionData.shown`.
        """
        logits = np.asarray(fitted.final.validation_logits, np.float64)  # [F * seeds, V, C]
        by_fold = logits.reshape(self.data.num_folds, -1, *logits.shape[1:]).mean(axis=1)
        held_out = np.zeros((len(self.data.labels), logits.shape[-1]))
        for own, clips in zip(by_fold, self.data.held_out, strict=True):
            held_out[clips] = own[: clips.sum()]
        return held_out

    def held_out_given(self, trained: TrainedSetting, modalities: Sequence[str]) -> np.ndarray:
        """`held_out_logits` when only some modalities are present."""
        return self.held_out_of(trained, self.data.labelled.only(modalities))

    def held_out_of(self, trained: TrainedSetting, clips: Embeddings) -> np.ndarray:
        """`held_out_logits` of the labelled clips with what `clips` show of them."""
        (logits,) = self.fold_logits(trained.honest.blind_members, clips)
        return logits[self.data.fold_of, np.arange(len(self.data.labels))] + self.prior(trained, "train")

    def with_votes(self, trained: TrainedSetting) -> TrainedSetting:
        """The setting with the votes' prior in all its logits and scores but the challenge's; itself without votes.

        A held-out clip's prior is weighted by the held-out clips of the other folds and by `logits_without` its own.
        """
        if self.data.votes is None:
            return trained
        logits = self.held_out_logits(trained.honest.fitted)
        folds = range(self.data.num_folds)
        without = np.concatenate([self.logits_without([trained.honest.setting], fold) for fold in folds])
        weights = VoteWeights.fit(logits, without, self.data.votes.labelled, self.data.labels, self.data.held_out)
        return self._voted(trained, weights)

    def _voted(self, trained: TrainedSetting, weights: VoteWeights) -> TrainedSetting:
        voted = replace(trained, votes=weights, twin=trained.twin and self._voted(trained.twin, weights))
        final, prior = trained.fitted.final, self.prior(voted, "train")
        logits: Any = np.array(final.validation_logits, np.float64)  # [F * seeds, V, C]
        for fold, clips in enumerate(self.data.held_out):
            own = slice(fold * self.networks.seeds, (fold + 1) * self.networks.seeds)
            logits[own, : clips.sum()] += prior[clips]
        test = trained.test + self.prior(voted, "test")
        voted = replace(
            voted,
            fitted=trained.fitted._replace(final=final._replace(validation_logits=logits)),
            unlabelled=trained.unlabelled + self.prior(voted, "unlabeled"),
            test=test,
            test_waf=self.test_waf(test.mean(axis=0)),
        )
        return replace(voted, cv_waf=self.fold_wafs(self.held_out_logits(voted.honest.fitted)))

    def prior(self, trained: TrainedSetting, split: str) -> np.ndarray:
        """What votes add to the logits [N, C] of the clips of a split; zeros unless they are of `with_votes`."""
        if not trained.votes or not self.data.votes:
            return np.zeros((len(self.data.truth[split]), self.networks.num_classes))
        weights = trained.votes.folds[self.data.fold_of, None] if split == "train" else trained.votes.ensemble
        return weights * self.data.votes.splits[split]

    def fold_wafs(self, logits: np.ndarray) -> np.ndarray:
        """WAF [F] of each fold's held-out clips; logits [L, C]."""
        return np.array([waf(self.data.labels[clips], logits[clips]) for clips in self.data.held_out])

    def waf_given(self, trained: TrainedSetting, modalities: Sequence[str]) -> dict[str, float | None]:
        """Cross-validated and test WAF of a setting when only some modalities are present."""
        if trained.diverged:
            return {"cv_waf": None, "test_waf": None}
        folds = self.fold_wafs(self.held_out_given(trained, modalities))
        (test,) = self.fold_logits(trained.members, self.data.test.only(modalities))
        return {
            "cv_waf": float(folds.mean()),
            "test_waf": self.test_waf(test.mean(axis=0) + self.prior(trained, "test")),
        }

    def temperatures(self, trained: TrainedSetting, clips: np.ndarray | None = None) -> np.ndarray:
        """Temperatures [M] for 1, 2, ... present modalities, fitted on held-out clips.

        Each clip is shown with every subset of its modalities, so that also counts that no clip has are fitted: of
        those that held-out clips show, and larger ones.
        clips: [L] bool, those to fit on; by default all.
        """
        data = self.data
        clips = np.ones(len(data.labels), bool) if clips is None else clips
        shown = trained.setting.shown(data.shown)
        larger = [subset for subset in subsets_of(trained.setting.modalities) if len(subset) > len(shown)]
        subsets = subsets_of(shown) + larger
        logits = np.concatenate([self.held_out_given(trained, subset)[clips] for subset in subsets])
        counts = np.concatenate([data.labelled.only(subset).present_count[clips] for subset in subsets])
        return fit_temperatures(logits, np.tile(data.labels[clips], len(subsets)), counts, len(data.modalities))

    def predictions(self, trained: TrainedSetting, temperatures: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated probabilities [N, C] of the ensemble, of the clips of either split without labels to train on."""
        return {
            split: calibrated(logits.mean(axis=0), clips.present_count, temperatures)
            for split, clips, logits in (
                ("unlabeled", self.data.unlabelled, trained.unlabelled),
                ("test", self.data.test, trained.test),
            )
        }

    def test_waf(self, logits: np.ndarray) -> float | None:
        """WAF of logits [T, C] on the test clips whose label is known; None if there are none."""
        known = self.data.test_truth >= 0
        return waf(self.data.test_truth[known], logits[known]) if known.any() else None
