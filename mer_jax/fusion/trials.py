"""What is trained: settings x folds x seeds. A trial is one training of the fusion head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.defaults import MODALITIES
from mer_jax.fusion.fusion_settings import AblationSettings, FusionSettings, Hyperparameters
from mer_jax.runtime.random import named_key
from mer_jax.self_training_settings import OWN_FOLD


@dataclass(frozen=True)
class Setting:
    """What one row of a table trains: a unimodal baseline sees one modality."""

    name: str
    modalities: tuple[str, ...]
    hyperparameters: Hyperparameters
    seed: int = 0
    best_epoch: bool = False  # its networks are those of the epoch that is best by the clips that their fold holds out
    chooser: str = OWN_FOLD  # of its pseudo-labels
    # Of these modalities, those that it sees; () for all. Kept parts are named by the repr: the name is to tell them.
    streams: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls, name: str, settings: FusionSettings, modalities: Sequence[str], seed: int = 0, **changes: Any
    ) -> "Setting":
        """The settings' row that sees `modalities`, but for `changes` of its hyperparameters."""
        hyperparameters = settings.hyperparameters._replace(**changes)
        return cls(name, tuple(modalities), hyperparameters, seed, settings.network == "best")

    def sees(self, stream: str) -> bool:
        """Whether it sees a stream of its modalities."""
        return not self.streams or stream in self.streams

    def shown(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """What its held-out clips show of `modalities`: those that it sees, or all that it sees if these are none."""
        return tuple(name for name in self.modalities if name in modalities) or self.modalities

    @property
    def twin(self) -> "Setting":
        """The same, but that held-out clips have no say in what their fold trains on: what can be scored honestly."""
        return replace(self, name=f"{self.name}, blind", best_epoch=False, chooser=OWN_FOLD)


def self_trained(settings: Sequence[Setting], chooser: str) -> list[Setting]:
    """The settings with the chooser of their pseudo-labels; behind them the twins of those whose scores would flatter.

    With pseudo-labels, a network of the best epoch hands its choice on to the trainings that come.
    """
    chosen = [replace(setting, chooser=chooser) for setting in settings]
    return chosen + [each.twin for each in chosen if each.best_epoch or each.chooser != OWN_FOLD]


class Table(NamedTuple):
    """The settings that a run trains."""

    run: Setting  # the run's own
    ablations: list[Setting]  # self-trained beside it (the paper's Table 2)
    singles: list[Setting]  # a part of the modalities, labelled clips only (Table 1)


def run_table(settings: FusionSettings, ablations: AblationSettings, modalities: Sequence[str]) -> Table:
    """The table of a run that has `modalities`."""
    run = Setting.of("this run", settings, modalities)
    if len(modalities) == 1:
        return Table(run, [], [])
    rows = [
        Setting.of(f"modality dropout {rate:g}", settings, modalities, modality_dropout=rate)
        for rate in ablations.modality_dropouts
        if rate != settings.modality_dropout
    ]
    if ablations.without_video and "video" in modalities:
        others = [modality for modality in modalities if modality != "video"]
        rows.append(Setting.of("without video, modality dropout 0", settings, others, modality_dropout=0.0))
    singles = []
    if ablations.single_modalities:
        parts: dict[str, tuple[str, ...]] = {modality: (modality,) for modality in modalities}
        if {"image", "video"} < set(modalities):
            parts["image + video"] = ("image", "video")
        singles = [Setting.of(name, settings, part, modality_dropout=0.0) for name, part in parts.items()]
    return Table(run, rows, singles)


def single_streams(
    settings: FusionSettings, ablations: AblationSettings, modality_of: Mapping[str, str]
) -> dict[str, Setting]:
    """Stream -> what trains on it alone, as `Table.singles` on a modality; none of a modality's only one."""
    owners = [*modality_of.values()]
    return {
        stream: replace(Setting.of(f"{stream} alone", settings, (own,), modality_dropout=0.0), streams=(stream,))
        for stream, own in modality_of.items()
        if owners.count(own) > 1 and ablations.single_modalities
    }


class Trials(NamedTuple):
    """R trainings. Index arrays hold positions in the training set; -1 pads them at the end."""

    key: jax.Array  # [R] PRNG keys
    fold: jax.Array  # [R] int32
    train: jax.Array  # [R, T] int32
    validation: jax.Array  # [R, V] int32
    sees: dict[str, jax.Array]  # by stream [R] bool: False hides it from the trial
    shown: dict[str, jax.Array]  # by stream [R] bool, what its held-out clips show of these
    hyperparameters: Hyperparameters  # leaves [R] float32


def make_trials(
    fold_of: np.ndarray,
    key: jax.Array,
    settings: Sequence[Setting],
    room: int = 0,
    extra: Sequence[Sequence[np.ndarray]] | None = None,
    copy_of: Sequence[int] | np.ndarray = (),
    seeds: int = 1,
    shown: Sequence[str] | None = None,
    modality_of: Mapping[str, str] | None = None,
) -> Trials:
    """Cross-validates every setting: trials are settings x folds x seeds, seeds fastest.

    A fold validates its own clips; it trains on the others, on their copies and on its `extra` ones.

    Args:
        fold_of: [L] int, the fold of each labelled clip.
        key: of the round. Settings of one seed share draws, to differ in nothing else.
        room: the most extra clips of any setting: rounds with more or fewer of them share a compilation.
        extra: for each setting, positions in the training set of pseudo-labelled clips: of each fold, or of all.
        copy_of: [K] int, the originals of the copies behind the labelled clips; () to train without them.
        seeds: networks of each setting and fold.
        shown: the modalities of held-out clips; by default all.
        modality_of: stream -> modality, of the training set; by default each of MODALITIES is its only stream.
    """
    modality_of = {modality: modality for modality in MODALITIES} if modality_of is None else modality_of
    shown = [*modality_of.values()] if shown is None else shown
    extra = [[np.zeros(0, int)]] * len(settings) if extra is None else extra
    folds = np.unique(fold_of)
    grid = [
        (setting, clips[fold if len(clips) > 1 else 0], fold, number)
        for setting, clips in zip(settings, extra, strict=True)
        for fold in folds
        for number in range(seeds)
    ]
    with_copies = np.append(fold_of, fold_of[np.asarray(copy_of, int)])
    others = {fold: np.flatnonzero(with_copies != fold) for fold in folds}
    train = [np.append(others[fold], clips) for _, clips, fold, _ in grid]
    validation = [np.flatnonzero(fold_of == fold) for _, _, fold, _ in grid]

    def by_stream(modalities: Sequence[Sequence[str]]) -> dict[str, jax.Array]:
        rows = [(setting, own) for (setting, *_), own in zip(grid, modalities, strict=True)]
        return {
            stream: jnp.array([modality in own and setting.sees(stream) for setting, own in rows])
            for stream, modality in modality_of.items()
        }

    return Trials(
        key=jnp.stack([named_key(key, setting.seed, int(fold), *[n] * (n > 0)) for setting, _, fold, n in grid]),
        fold=jnp.array([fold for _, _, fold, _ in grid], jnp.int32),
        train=_pad_rows(train, max(map(len, others.values())) + room),
        validation=_pad_rows(validation, max(map(len, validation))),
        sees=by_stream([setting.modalities for setting, *_ in grid]),
        shown=by_stream([setting.shown(shown) for setting, *_ in grid]),
        hyperparameters=Hyperparameters(*np.array([setting.hyperparameters for setting, *_ in grid], np.float32).T),
    )


def _pad_rows(rows: Sequence[np.ndarray], width: int) -> jax.Array:
    return jnp.array([np.pad(row, (0, width - len(row)), constant_values=-1) for row in rows], jnp.int32)
