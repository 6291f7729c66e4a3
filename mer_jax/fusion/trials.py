"""The clips that fusion trains on, kept on the device, and the runs that draw from them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.features.embeddings import Embedded
from mer_jax.models.fusion import MODALITIES
from mer_jax.runtime.random import named_key


class Pool(NamedTuple):
    """P clips: the labelled ones, corrupted copies of them, then slots for pseudo-labelled ones."""

    features: dict[str, jax.Array]  # [1, P, D] float32 per modality, or [F, P, D] where each fold has its own
    present: dict[str, jax.Array]  # [P] bool per modality
    labels: jax.Array  # [P] int32


class Hyperparameters(NamedTuple):
    """What a grid may vary within one program: scalars, or [R] arrays as a part of `Runs`."""

    learning_rate: float | jax.Array = 3e-4
    l2: float | jax.Array = 1e-5  # added to the gradient
    dropout: float | jax.Array = 0.3
    modality_dropout: float | jax.Array = 0.3
    label_smoothing: float | jax.Array = 0.0


class Setting(NamedTuple):
    """What one row of a table trains: a unimodal baseline sees one modality."""

    modalities: tuple[str, ...] = MODALITIES
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int = 0


class Runs(NamedTuple):
    """R trainings. Index arrays hold positions in the pool; -1 pads them at the end."""

    key: jax.Array  # [R] PRNG keys
    fold: np.ndarray  # [R] int32
    train: np.ndarray  # [R, T] int32
    validation: np.ndarray  # [R, V] int32
    sees: np.ndarray  # [R, 4] bool, in the order of MODALITIES: False hides a modality from the run
    hyperparameters: Hyperparameters  # leaves [R] float32


def make_pool(
    features: Mapping[str, Embedded],
    present: Mapping[str, np.ndarray],
    labels: np.ndarray,
    slots: int = 0,
) -> Pool:
    """Puts L labelled clips on the device, with `slots` free positions behind them.

    Args:
      features: [L, D] per modality, or [F, L, D] where each fold has its own.
      present: [L] bool per modality.
      labels: [L] int.
      slots: the most pseudo-labelled clips there will be at any time.
    """

    def place(x, dtype):
        x = np.asarray(x, dtype)
        clips = max(x.ndim - 2, 0)  # clips are the last axis but the features, or the only one
        room = [(0, slots if axis == clips else 0) for axis in range(x.ndim)]
        return jnp.asarray(np.pad(x, room))

    return Pool(
        {name: place(x if x.ndim == 3 else np.asarray(x)[None], np.float32) for name, x in features.items()},
        {name: place(x, bool) for name, x in present.items()},
        place(labels, np.int32),
    )


def fill_slots(
    pool: Pool,
    slots: int,
    features: Mapping[str, Embedded],
    present: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> Pool:
    """The pool with n <= `slots` pseudo-labelled clips (see `make_pool`) in its last `slots` positions."""
    return _write_tail(pool, make_pool(features, present, labels, slots - len(labels)))


@jax.jit
def _write_tail(pool: Pool, tail: Pool) -> Pool:
    def write(whole, part):
        clips = max(whole.ndim - 2, 0)
        return jax.lax.dynamic_update_slice_in_dim(whole, part, whole.shape[clips] - part.shape[clips], clips)

    return jax.tree.map(write, pool, tail)


def make_runs(
    fold_of: np.ndarray,
    key: jax.Array,
    settings: Sequence[Setting] = (Setting(),),
    room: int = 0,
    extra: Sequence[np.ndarray] | None = None,
    copy_of: Sequence[int] | np.ndarray = (),
) -> Runs:
    """Cross-validates every setting: runs are settings x folds, folds fastest.

    A fold validates its own clips; it trains on the others, on their copies and on its setting's `extra` ones.

    Args:
      fold_of: [L] int, the fold of each labelled clip.
      key: of the round; the setting's seed and the fold are folded in. Settings of one seed share draws, to
        differ in nothing else.
      settings: what to train.
      room: the most extra clips of any setting. Shapes depend on it, not on how many there are, so that
        rounds of self-training share a compilation.
      extra: for each setting, positions in the pool of its pseudo-labelled clips.
      copy_of: [K] int, the originals of the copies behind the labelled clips; () to train without them.
    """
    extra = [np.zeros(0, int)] * len(settings) if extra is None else extra
    folds = np.unique(fold_of)
    grid = [(setting, clips, fold) for setting, clips in zip(settings, extra, strict=True) for fold in folds]
    with_copies = np.append(fold_of, fold_of[np.asarray(copy_of, int)])
    others = {fold: np.flatnonzero(with_copies != fold) for fold in folds}
    train = [np.append(others[fold], clips) for _, clips, fold in grid]
    validation = [np.flatnonzero(fold_of == fold) for _, _, fold in grid]
    return Runs(
        key=jnp.stack([named_key(key, setting.seed, int(fold)) for setting, _, fold in grid]),
        fold=np.array([fold for _, _, fold in grid], np.int32),
        train=_pad_rows(train, max(map(len, others.values())) + room),
        validation=_pad_rows(validation, max(map(len, validation))),
        sees=np.array([[name in setting.modalities for name in MODALITIES] for setting, *_ in grid]),
        hyperparameters=Hyperparameters(*np.array([setting.hyperparameters for setting, *_ in grid], np.float32).T),
    )


def _pad_rows(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    return np.stack([np.pad(row, (0, width - len(row)), constant_values=-1) for row in rows]).astype(np.int32)


def gather(
    pool: Pool, index: jax.Array, fold: jax.Array, sees: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Embeddings [B, D] and presence [B] of the clips at `index` [B], for a run of `fold` that `sees` [4]."""
    # One indexing straight from the pool: `x[fold][index]` would give every run a copy of it.
    embeddings = {name: x[fold if len(x) > 1 else 0, index] for name, x in pool.features.items()}
    present = {name: x[index] & sees[MODALITIES.index(name)] for name, x in pool.present.items()}
    return embeddings, present
