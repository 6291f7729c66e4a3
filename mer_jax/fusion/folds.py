"""Cross-validation folds: seeded, stratified by label, never splitting a group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_jax.data.clips import Dataset, valid_modalities
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import write_csv
from mer_jax.runtime.settings import setting


@dataclass(frozen=True)
class FoldSettings:
    """`config.cv`."""

    folds: int = setting(5, least=2)
    settings_from: str = setting("")  # what chose the run's settings by their score on its own clips, if anything did
    # "+"-joined modalities that held-out clips show where their score chooses; empty: what counts for the clips that
    # are predicted (`Dataset.candidate_modalities`); "all": all.
    shown: str = setting("")


@dataclass(frozen=True)
class Folds:
    """A data set's labelled clips, and the fold that holds each out."""

    positions: np.ndarray  # [L] int, in the data set's clips
    labels: np.ndarray  # [L] int
    fold_of: np.ndarray  # [L] int32

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.fold_of.max()) + 1


def run_folds(dataset: Dataset, settings: FoldSettings, seed: int, workdir: Path) -> Folds:
    """`labelled_folds`, kept as `folds.csv`."""
    folds = labelled_folds(dataset, settings, seed)
    names = [dataset.clips[i].name for i in folds.positions]
    write_csv(workdir / "folds.csv", ("name", "fold"), zip(names, map(str, folds.fold_of), strict=True))
    return folds


def labelled_folds(dataset: Dataset, settings: FoldSettings, seed: int) -> Folds:
    """The folds of a run, the same for every stage. Clips of a group share a fold.

    Of fewer labelled clips, or groups of them, than folds each is one.

    Raises:
        DataError: no clip is labelled, or all are of one group.
    """
    positions = dataset.split("train")
    if not positions:
        raise DataError(f"{dataset.name}: no labelled clip; training needs labels")
    clips = [dataset.clips[i] for i in positions]
    labels = np.array([dataset.labels.index(clip.label) for clip in clips])
    groups = np.array([clip.group or clip.name for clip in clips])
    units = len(np.unique(groups))
    if units < 2:
        raise DataError(
            f"{dataset.name}: {len(clips)} labelled clips, all of them held out at once: training needs two or more "
            "that are of no common group"
        )
    return Folds(np.array(positions), labels, make_folds(labels, min(settings.folds, units), seed, groups))


def shown_modalities(dataset: Dataset, settings: FoldSettings, modalities: Sequence[str]) -> tuple[str, ...]:
    """Those of `modalities` that held-out clips show wherever their score chooses: what the candidates have.

    Raises:
        DataError: none of them.
    """
    asked = valid_modalities(settings.shown) if settings.shown else dataset.candidate_modalities
    if asked is None:
        return tuple(modalities)
    shown = tuple(name for name in modalities if name in asked)
    if not shown:
        raise DataError(
            f"{dataset.name}: of what counts for the clips that are predicted ({'+'.join(asked) or 'nothing'}) no "
            f"labelled clip has any; these have {'+'.join(modalities)}"
        )
    return shown


def check_folds(dataset: Dataset, settings: FoldSettings, seed: int, modalities: Sequence[str]) -> Iterator[str]:
    """Notes that there are fewer folds than are asked for. Raises as `labelled_folds` and `shown_modalities`.

    modalities: of labelled clips.
    """
    if modalities:
        shown_modalities(dataset, settings, modalities)
    if (count := labelled_folds(dataset, settings, seed).count) < settings.folds:
        yield f"{count} labelled clips, or groups of them: as many folds, not cv.folds={settings.folds}"


def make_folds(labels: np.ndarray, num_folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Assigns every clip to the fold that validates it.

    Groups (speakers, say) are taken from the largest to the smallest, in random order among equals, and each goes to
    the fold that so far has least of the classes it brings. Classes with fewer members than folds spread as far as
    they go, and no fold stays empty.

    Args:
        labels: [N] int.
        groups: [N] of any type that sorts; clips of one group share a fold. None makes every clip its own group.

    Returns:
        [N] int32 in [0, num_folds).

    Raises:
        DataError: there are fewer clips, or groups, than folds.
    """
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _, group_of, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if len(sizes) < num_folds:
        kind = "labelled clips" if groups is None else "groups of labelled clips"
        raise DataError(f"{num_folds} folds need at least as many {kind}, found {len(sizes)}: lower cv.folds")
    _, class_of, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    brings = np.zeros((len(sizes), len(class_sizes)), np.int64)  # [G, C]
    np.add.at(brings, (group_of, class_of), 1)

    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    holds = np.zeros((num_folds, len(class_sizes)), np.int64)
    fold_of_group = np.zeros(len(sizes), np.int32)
    for group in order:
        # The choice that least raises the variance over folds of each class's share.
        crowding = holds @ (brings[group] / class_sizes**2)
        fold = np.lexsort((holds.sum(axis=1), crowding))[0]
        holds[fold] += brings[group]
        fold_of_group[group] = fold
    return fold_of_group[group_of]
