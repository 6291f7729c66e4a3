"""Features -> logits: every fold of every setting through the rounds of self-training, side by side.

A setting is a row of a table: which modalities it sees, how much modality dropout it trains with. All settings
share one compiled program; each chooses pseudo-labels of its own. The first one is the run's own, the others are
there to compare with.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mer_jax.data.clips import SPLITS, Dataset
from mer_jax.features.embeddings import Embedded
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.fusion.trainer import Fitted, FoldTrainer
from mer_jax.fusion.trials import Hyperparameters, Pool, Setting, fill_slots, make_pool, make_runs
from mer_jax.metrics import softmax, waf
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json, load_json
from mer_jax.runtime.random import named_key
from mer_jax.self_training import Options, PseudoLabels, all_agree, select_round
from mer_jax.stages import Features


class Embeddings(NamedTuple):
    """Some clips as fusion sees them."""

    features: Mapping[str, Embedded]  # [N, D] per modality, or [F, N, D] where each fold has its own
    present: Mapping[str, np.ndarray]  # [N] bool per modality

    def take(self, index: np.ndarray) -> "Embeddings":
        """The clips at `index`, in its order."""
        return Embeddings(
            {modality: x.take(index, axis=-2) for modality, x in self.features.items()},
            {modality: x[index] for modality, x in self.present.items()},
        )

    def only(self, modalities: Sequence[str]) -> "Embeddings":
        """The same clips with every other modality absent."""
        kept = {modality: x & (modality in modalities) for modality, x in self.present.items()}
        return Embeddings(self.features, kept)


@dataclass(frozen=True)
class Data:
    """What fusion trains on and what it scores. Test labels are read for scoring alone."""

    labelled: Embeddings
    labels: np.ndarray  # [L] int
    fold_of: np.ndarray  # [L] int
    training: Embeddings  # [L + K], the labelled clips, then corrupted copies of some: to train on alone
    copy_of: np.ndarray  # [K] int, the copies' originals among the labelled
    unlabelled: Embeddings
    unlabelled_truth: np.ndarray  # [U] int, -1 where unknown
    test: Embeddings
    test_truth: np.ndarray  # [T] int, -1 where unknown


def fusion_data(
    dataset: Dataset,
    features: Mapping[str, Features],
    truth: np.ndarray,
    fold_of: np.ndarray,
    copy_of: np.ndarray,
    standardise: bool,
) -> tuple[Data, Standardiser]:
    """Standardises and splits the features.

    A modality that no labelled clip has is left out, and so is a labelled clip, or a copy, without any modality.

    Args:
      features: of the data set's clips, then of the corrupted copies.
      truth, fold_of: [L] int, label and fold of the labelled clips.
      copy_of: [K] int, the copies' originals among the labelled clips.
      standardise: by what the clips are like; copies have no say.
    """
    labelled, unlabelled, test = (np.array(dataset.split(split), int) for split in SPLITS)
    kept = {modality: found for modality, found in features.items() if found.present[labelled].any()}
    if not kept:
        raise DataError(f"{dataset.name}: no labelled clip has any of {', '.join(features)}; see the media files")
    embeddings = {modality: found.embeddings for modality, found in kept.items()}
    present = {modality: found.present for modality, found in kept.items()}
    standardiser = Standardiser.identity({modality: x.shape[-1] for modality, x in embeddings.items()})
    if standardise:
        standardiser = Standardiser.fit(*Embeddings(embeddings, present).take(np.append(labelled, unlabelled)))
    everything = Embeddings(standardiser(embeddings), present)
    any_present = np.any(list(present.values()), axis=0)
    usable = any_present[labelled]
    copies = len(dataset.clips) + np.arange(len(copy_of))
    usable_copies = any_present[copies] & usable[copy_of]
    empty = sorted(set(fold_of) - set(fold_of[usable]))
    if empty:
        raise DataError(
            f"{dataset.name}: no labelled clip of fold {empty[0]} has any modality; lower cv.folds or add clips"
        )
    known = np.array(
        [dataset.labels.index(dataset.truth[c.name]) if c.name in dataset.truth else -1 for c in dataset.clips]
    )
    data = Data(
        labelled=everything.take(labelled[usable]),
        labels=truth[usable],
        fold_of=fold_of[usable],
        training=everything.take(np.append(labelled[usable], copies[usable_copies])),
        copy_of=(np.cumsum(usable) - 1)[copy_of[usable_copies]],
        unlabelled=everything.take(unlabelled),
        unlabelled_truth=known[unlabelled],
        test=everything.take(test),
        test_truth=known[test],
    )
    return data, standardiser


class Result(NamedTuple):
    """S settings of F folds after one training."""

    fitted: Fitted  # leaves [S * F, ...]
    members: Members  # the S * F networks
    unlabelled: np.ndarray  # [S, U, C] probabilities of the ensembles
    test: np.ndarray  # [S, T, C]
    cv_waf: np.ndarray  # [S, F]
    test_waf: list[float | None]  # [S]


def table_settings(modalities: Sequence[str], config: Any) -> tuple[dict[str, Setting], dict[str, Setting]]:
    """The run's own setting and those of `config.ablations` (Table 2), and single modalities (Table 1); by name."""
    fusion = config.fusion
    shared = {name: fusion[name] for name in ("learning_rate", "l2", "dropout", "label_smoothing")}

    def setting(seen: Sequence[str], modality_dropout: float) -> Setting:
        return Setting(tuple(seen), Hyperparameters(**shared, modality_dropout=modality_dropout))

    own = {"this run": setting(modalities, fusion.modality_dropout)}
    if len(modalities) == 1:
        return own, {}
    rows = {
        f"modality dropout {rate:g}": setting(modalities, rate)
        for rate in config.ablations.modality_dropouts
        if rate != fusion.modality_dropout
    }
    if config.ablations.without_video and "video" in modalities:
        rows["without video, modality dropout 0"] = setting([m for m in modalities if m != "video"], 0.0)
    alone = {}
    if config.ablations.single_modalities:
        alone = {modality: setting([modality], 0.0) for modality in modalities}
        if {"image", "video"} < set(modalities):
            alone["image + video"] = setting(["image", "video"], 0.0)
    return own | rows, alone


class Fusion:
    """Trains and scores settings on one data set.

    config: `config.fusion`. num_settings: the most that are trained at once.
    """

    def __init__(self, data: Data, num_classes: int, config: Any, options: Options, seed: int, num_settings: int):
        self.data, self.options, self.seed, self.num_classes = data, options, seed, num_classes
        self.num_folds = int(data.fold_of.max()) + 1
        self.dims = {modality: x.shape[-1] for modality, x in data.labelled.features.items()}
        self.room = min(options.slots(num_classes), len(data.unlabelled_truth))  # pseudo-labels of a setting
        self.slots = self.room * num_settings
        self.pool = training_pool(data, self.slots)
        self.trainer = FoldTrainer(
            self.dims, num_classes, config.hidden, config.batch_size, config.epochs, config.keep_one
        )
        self.scorer = Scorer(self.dims, num_classes, config.hidden)

    def on(self, data: Data) -> "Fusion":
        """The same program for other features of the same clips."""
        other = copy(self)
        other.data, other.pool = data, training_pool(data, self.slots)
        return other

    def train(self, settings: Sequence[Setting], pseudo: Sequence[PseudoLabels], number: int) -> Result:
        """Training `number`: every setting from scratch with its pseudo-labels; then all candidates are scored."""
        data, count = self.data, len(self.pool.labels) - self.slots
        clips = data.unlabelled.take(np.concatenate([chosen.indices for chosen in pseudo]))
        pool = fill_slots(self.pool, self.slots, *clips, np.concatenate([chosen.labels for chosen in pseudo]))
        ends = count + np.cumsum([len(chosen) for chosen in pseudo])
        extra = [np.arange(end - len(chosen), end) for end, chosen in zip(ends, pseudo, strict=True)]
        runs = make_runs(data.fold_of, named_key(self.seed, "fusion", number), settings, self.room, extra, data.copy_of)
        fitted = jax.block_until_ready(self.trainer.train(pool, runs))
        members = Members(fitted.params, runs.fold, runs.sees)
        test = self.ensembles(members, data.test)
        return Result(
            fitted=fitted,
            members=members,
            unlabelled=self.ensembles(members, data.unlabelled),
            test=test,
            cv_waf=np.asarray(fitted.validation_waf).max(axis=1).reshape(len(settings), self.num_folds),
            test_waf=[self.test_waf(probs) for probs in test],
        )

    def self_train(
        self,
        settings: Mapping[str, Setting],
        folder: Path,
        unimodal: np.ndarray | None = None,
        advance: Callable[[int], object] = lambda count: None,
    ) -> tuple[list[dict[str, Any]], Result]:
        """All rounds, as they are saved in `folder` (setting -> scores and choices), and the final training.

        A round that `folder` holds already is not computed again. unimodal: [M, U, C] probabilities of classifiers
        that see one modality, for the agreement filter.
        """
        rounds = []
        pseudo = [PseudoLabels.none() for _ in settings]
        for number in range(1, self.options.rounds + 1):
            path = folder / f"round-{number:02d}.json"
            if not path.exists():
                result = self.train(list(settings.values()), pseudo, number)
                chosen = [self.choose(i, number, pseudo[i], result, unimodal) for i in range(len(settings))]
                dump_json(path, dict(zip(settings, chosen, strict=True)))
            rounds.append(load_json(path))
            pseudo = [restore(rounds[-1][name]["pseudo"]) for name in settings]
            advance(1)
        result = self.train(list(settings.values()), pseudo, self.options.rounds + 1)
        advance(1)
        return rounds, result

    def choose(
        self, i: int, number: int, pseudo: PseudoLabels, result: Result, unimodal: np.ndarray | None
    ) -> dict[str, Any]:
        """Setting i's scores before round `number` and the clips it adds in it."""
        present = np.stack(list(self.data.unlabelled.present.values()))  # [M, U]
        eligible = np.any(present, axis=0)
        if unimodal is not None:
            eligible = eligible & all_agree(result.unlabelled[i], unimodal, present)
        chosen = select_round(number, pseudo, result.unlabelled[i], self.options, eligible)
        return {
            "cv_waf": result.cv_waf[i].tolist(),
            "test_waf": result.test_waf[i],
            "added": dump(chosen.added),
            "shortfall": chosen.shortfall.tolist(),
            "pseudo": dump(chosen.pseudo),
        }

    def ensembles(self, members: Members, clips: Embeddings) -> np.ndarray:
        """Probabilities [S, N, C] float64 of the mean logits over each setting's folds; N may be 0.

        In float32 the surest clips all have probability 1, and self-training could not rank them.
        """
        if len(next(iter(clips.present.values()))) == 0:
            return np.zeros((len(members.fold) // self.num_folds, 0, self.num_classes))
        logits = self.scorer(members, *clips).logits  # [S * F, N, C]
        return softmax(logits.reshape(-1, self.num_folds, *logits.shape[1:]).mean(axis=1, dtype=np.float64))

    def own(self, result: Result, i: int = 0) -> Members:
        """The networks of setting i, one per fold; the first setting is the run's own."""
        return jax.tree.map(lambda x: x[i * self.num_folds : (i + 1) * self.num_folds], result.members)

    def held_out(self, result: Result) -> np.ndarray:
        """Probabilities [L, C] of the run's own setting, each clip's from the fold that held it out."""
        logits = np.asarray(result.fitted.validation_logits)
        probs = np.zeros((len(self.data.labels), self.num_classes), np.float32)
        for fold, mine in self.by_fold():
            probs[mine] = softmax(logits[fold, : mine.sum()])
        return probs

    def waf_given(self, result: Result, modalities: Sequence[str], i: int = 0) -> dict[str, float | None]:
        """Cross-validated and test WAF of setting i when only some modalities are present."""
        data, members = self.data, self.own(result, i)
        logits = self.scorer(members, *data.labelled.only(modalities)).logits
        folds = [(logits[fold, mine], data.labels[mine]) for fold, mine in self.by_fold()]
        test = self.ensembles(members, data.test.only(modalities))[0]
        return {
            "cv_waf": float(np.mean([waf(labels, own) for own, labels in folds])),
            "test_waf": self.test_waf(test),
        }

    def by_fold(self) -> list[tuple[int, np.ndarray]]:
        """Each fold with the mask [L] of the clips it holds out."""
        return [(fold, self.data.fold_of == fold) for fold in range(self.num_folds)]

    def test_waf(self, probs: np.ndarray) -> float | None:
        """WAF of probabilities [T, C] on the test clips whose label is known; None if there are none."""
        known = self.data.test_truth >= 0
        return waf(self.data.test_truth[known], probs[known]) if known.any() else None


def training_pool(data: Data, slots: int) -> Pool:
    """Labelled clips, their corrupted copies, and free slots, on the device."""
    return make_pool(*data.training, np.append(data.labels, data.labels[data.copy_of]), slots)


def dump(pseudo: PseudoLabels) -> dict[str, list]:
    """Pseudo-labels as JSON takes them."""
    return {name: getattr(pseudo, name).tolist() for name in ("indices", "labels", "confidences")}


def restore(saved: Mapping[str, list]) -> PseudoLabels:
    """Pseudo-labels from JSON."""
    return PseudoLabels(
        np.array(saved["indices"], np.int64),
        np.array(saved["labels"], np.int32),
        np.array(saved["confidences"], np.float64),
    )
