"""Features -> what fusion trains on: standardised, split, and the training clips on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.data.clips import SPLITS, Dataset
from mer_jax.data.votes import Votes
from mer_jax.defaults import in_order
from mer_jax.features.embeddings import Embedded, Features
from mer_jax.features.standardise import Standardiser, within_groups
from mer_jax.fusion.folds import Folds, FoldSettings, shown_modalities
from mer_jax.fusion.modalities import by_modality
from mer_jax.fusion.votes import VotePrior
from mer_jax.runtime.array_types import Array, Bool, Float, Int
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import digest_of


class Embeddings(NamedTuple):
    """Some clips as fusion sees them."""

    features: Mapping[str, Embedded]  # [N, D] per stream, or [F, N, D] where each fold has its own
    present: Mapping[str, np.ndarray]  # [N] bool per stream
    modality_of: Mapping[str, str] = MappingProxyType({})  # stream -> modality, of those that are called otherwise

    def take(self, index: np.ndarray) -> "Embeddings":
        """The clips at `index`, in its order."""
        return Embeddings(
            {stream: x.take(index, axis=-2) for stream, x in self.features.items()},
            {stream: x[index] for stream, x in self.present.items()},
            self.modality_of,
        )

    def only(self, modalities: Sequence[str]) -> "Embeddings":
        """The same clips with every other modality absent."""
        present = {
            stream: x & (self.modality_of.get(stream, stream) in modalities) for stream, x in self.present.items()
        }
        return self._replace(present=present)

    def without(self, stream: str) -> "Embeddings":
        """The same clips with one stream absent."""
        return self._replace(present={**self.present, stream: np.zeros_like(self.present[stream])})

    @property
    def modalities_present(self) -> dict[str, np.ndarray]:
        """[N] bool per modality: whether a clip has any of its streams."""
        return by_modality(self.present, self.modality_of)

    @property
    def present_count(self) -> np.ndarray:
        """[N] int, how many modalities each clip has."""
        return np.sum(list(self.modalities_present.values()), axis=0)


class Groups(NamedTuple):
    """Which clips belong together (a speaker's, a dialogue's); a clip without a group is one of its own."""

    labelled: np.ndarray  # [L] of any type that sorts, as all of these
    unlabelled: np.ndarray  # [U]
    test: np.ndarray  # [T]


@dataclass(frozen=True)
class FusionData:
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
    groups: Groups
    digest: str = ""  # of all of this
    constant: Mapping[str, float] = field(default_factory=dict)  # share of a stream's features that never change
    usual_sizes: Mapping[str, float] = field(default_factory=dict)  # stream -> see `without_outliers`
    limited_to: tuple[str, ...] = ()  # see `shown`; () for all
    votes: VotePrior | None = None  # from outside

    @property
    def modality_of(self) -> Mapping[str, str]:
        """Stream -> its modality."""
        return {stream: self.labelled.modality_of.get(stream, stream) for stream in self.labelled.features}

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.modality_of.values()))

    @property
    def dims(self) -> dict[str, int]:
        """Stream -> width of its embeddings."""
        return {stream: x.shape[-1] for stream, x in self.labelled.features.items()}

    @property
    def shown(self) -> tuple[str, ...]:
        """The modalities of held-out clips by which everything is chosen and scored: see `shown_modalities`."""
        return self.limited_to or self.modalities

    @property
    def truth(self) -> dict[str, np.ndarray]:
        """Split -> labels [N] int of its clips, -1 where unknown."""
        return {"train": self.labels, "unlabeled": self.unlabelled_truth, "test": self.test_truth}

    @property
    def num_folds(self) -> int:
        return int(self.fold_of.max()) + 1

    @property
    def held_out(self) -> np.ndarray:
        """[F, L] bool, the clips that each fold holds out."""
        return self.fold_of == np.arange(self.num_folds)[:, None]

    @property
    def usable(self) -> np.ndarray:
        """[U] bool, the unlabelled clips that have any modality."""
        return np.any(list(self.unlabelled.present.values()), axis=0)

    @property
    def strangers(self) -> np.ndarray:
        """[F, U] bool, the unlabelled clips of no group that the fold holds out."""
        return ~np.stack([np.isin(self.groups.unlabelled, self.groups.labelled[clips]) for clips in self.held_out])


def fusion_data(
    dataset: Dataset,
    features: Mapping[str, Features],
    folds: Folds,
    copy_of: np.ndarray,
    standardise: str,
    cv: FoldSettings | None = None,
    modality_of: Mapping[str, str] | None = None,
    votes: Votes | None = None,
) -> tuple[FusionData, Standardiser]:
    """Standardises and splits the features.

    A stream that no labelled clip has is left out, and so is a labelled clip, or a copy, without any.

    Args:
        features: by stream, of the data set's clips, then of the corrupted copies.
        copy_of: [K] int, the copies' originals among the labelled clips.
        standardise: "none" leaves features as they are; "all" goes by what labelled and unlabelled clips are like (test
            clips and copies have no say); "group" goes on with what all clips of a clip's group are like (no copies).
        cv: says what held-out clips show; by default what counts for the clips that are predicted.
        modality_of: stream -> modality; by default a modality has one stream, which is called as it is.
        votes: of the data set's clips, from outside.

    Raises:
        DataError: no labelled clip, or none of a fold, has any modality.
    """
    labelled, unlabelled, test = (np.array(dataset.split(split), int) for split in SPLITS)
    modality_of = dict(zip(features, features, strict=True)) if modality_of is None else modality_of
    modality_of = in_order({name: modality_of[name] for name, x in features.items() if x.present[labelled].any()})
    usable_features = {stream: features[stream] for stream in modality_of}
    if not usable_features:
        raise DataError(f"{dataset.name}: no labelled clip has any of {', '.join(features)}; see the media files")
    everything, standardiser, constant = standardised(dataset, usable_features, copy_of, standardise, modality_of)
    any_present = np.any(list(everything.present.values()), axis=0)
    usable = any_present[labelled]
    copies = len(dataset.clips) + np.arange(len(copy_of))
    usable_copies = any_present[copies] & usable[copy_of]
    empty = sorted(set(folds.fold_of) - set(folds.fold_of[usable]))
    if empty:
        raise DataError(
            f"{dataset.name}: no labelled clip of fold {empty[0]} has any modality; lower cv.folds or add clips"
        )
    truth = np.array(
        [dataset.labels.index(dataset.truth[c.name]) if c.name in dataset.truth else -1 for c in dataset.clips]
    )
    modalities = tuple(dict.fromkeys(modality_of.values()))
    shown = shown_modalities(dataset, cv or FoldSettings(), modalities)
    limited_to = () if shown == modalities else shown
    groups = np.array([f"group {clip.group}" if clip.group else f"clip {clip.name}" for clip in dataset.clips])
    prior = VotePrior.of(votes, labelled[usable], unlabelled, test) if votes else None
    data = FusionData(
        labelled=everything.take(labelled[usable]),
        labels=folds.labels[usable],
        fold_of=folds.fold_of[usable],
        training=everything.take(np.append(labelled[usable], copies[usable_copies])),
        copy_of=(np.cumsum(usable) - 1)[copy_of[usable_copies]],
        unlabelled=everything.take(unlabelled),
        unlabelled_truth=truth[unlabelled],
        test=everything.take(test),
        test_truth=truth[test],
        groups=Groups(groups[labelled[usable]], groups[unlabelled], groups[test]),
        digest=digest_of(
            {stream: x.digest for stream, x in features.items()},
            dataset.digest,
            *(array.tolist() for array in (truth, folds.fold_of, copy_of)),
            standardise,
            *[limited_to] * bool(limited_to),
            *[modality_of] * (modality_of != {stream: stream for stream in modality_of}),
            *[prior.digest for prior in [prior] if prior],
        ),
        votes=prior,
        limited_to=limited_to,
        constant=constant,
        usual_sizes={stream: x.usual_size for stream, x in usable_features.items()},
    )
    return data, standardiser


def standardised(
    dataset: Dataset,
    features: Mapping[str, Features],
    copy_of: np.ndarray,
    standardise: str,
    modality_of: Mapping[str, str],
) -> tuple[Embeddings, Standardiser, dict[str, float]]:
    """All clips, then the copies, as fusion sees them, and `FusionData.constant`; arguments as of `fusion_data`."""
    labelled, unlabelled, _ = (np.array(dataset.split(split), int) for split in SPLITS)
    raw = Embeddings(
        {stream: x.embeddings for stream, x in features.items()},
        {stream: x.present for stream, x in features.items()},
        modality_of,
    )
    fitted = Standardiser.fit(*raw.take(np.append(labelled, unlabelled))[:2])
    identity = Standardiser.identity({stream: x.shape[-1] for stream, x in raw.features.items()})
    standardiser = identity if standardise == "none" else fitted
    scaled = standardiser(raw.features)
    if standardise == "group":
        clips = [*dataset.clips, *(dataset.clips[labelled[original]] for original in copy_of)]
        scaled = within_groups(scaled, raw.present, [clip.group for clip in clips], len(dataset.clips))
    return raw._replace(features=scaled), standardiser, fitted.constant


def clip_axis(x: np.ndarray | jax.Array) -> int:
    """Clips are the last axis but the features, or the only one."""
    return max(x.ndim - 2, 0)


def pad_clips(x: np.ndarray, count: int) -> np.ndarray:
    """With zeros for `count` clips more."""
    return np.pad(x, [(0, count * (axis == clip_axis(x))) for axis in range(x.ndim)])


class TrainingSet(NamedTuple):
    """P clips on the device: the labelled ones, corrupted copies of them, then slots for pseudo-labelled ones."""

    features: dict[str, Float[Array, "_ P _"]]  # [1, P, D] per stream, or [F, P, D] where each fold has its own
    present: dict[str, Bool[Array, " P"]]
    labels: Int[Array, " P"]
    weights: Float[Array, " P"]  # of a clip in the loss


def make_training_set(
    features: Mapping[str, Embedded],
    present: Mapping[str, np.ndarray],
    labels: np.ndarray,
    slots: int = 0,
    weight: float = 1.0,
) -> TrainingSet:
    """Puts L labelled clips on the device, with `slots` free positions behind them.

    features: [L, D] per stream, or [F, L, D] where each fold has its own. present: [L] bool. labels: [L] int. weight:
    of each clip in the loss.
    """

    def place(x: np.ndarray, dtype: type) -> jax.Array:
        return jnp.asarray(pad_clips(np.asarray(x, dtype), slots))

    return TrainingSet(
        {name: place(np.array(x, ndmin=3), np.float32) for name, x in features.items()},
        {name: place(x, bool) for name, x in present.items()},
        place(labels, np.int32),
        place(np.full(len(labels), weight), np.float32),
    )


def fill_slots(
    training_set: TrainingSet, slots: int, clips: Embeddings, labels: np.ndarray, weight: float = 1.0
) -> TrainingSet:
    """The training set with n <= `slots` pseudo-labelled clips in its last `slots` positions; labels [n] int."""
    tail = make_training_set(clips.features, clips.present, labels, slots - len(labels), weight)
    return _write_tail(training_set, tail)


@jax.jit
def _write_tail(training_set: TrainingSet, tail: TrainingSet) -> TrainingSet:
    def write(whole: jax.Array, part: jax.Array) -> jax.Array:
        axis = clip_axis(whole)
        return jax.lax.dynamic_update_slice_in_dim(whole, part, whole.shape[axis] - part.shape[axis], axis)

    return jax.tree.map(write, training_set, tail)


def gather(
    training_set: TrainingSet, index: Int[Array, " B"], fold: Int[Array, ""], sees: Mapping[str, Bool[Array, ""]]
) -> tuple[dict[str, Float[Array, "B _"]], dict[str, Bool[Array, " B"]]]:
    """Embeddings and presence of the clips at `index`, for a trial of `fold` that `sees` some of the streams."""
    # One indexing straight from the set: `x[fold][index]` would give every trial a copy of it.
    embeddings = {name: x[fold if len(x) > 1 else 0, index] for name, x in training_set.features.items()}
    present = {name: x[index] & sees[name] for name, x in training_set.present.items()}
    return embeddings, present
