"""What a reader should know before trusting a run's cross-validated score."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mer_jax.data.clips import Dataset
from mer_jax.fusion.folds import Folds


def cautions(
    dataset: Dataset,
    folds: Folds,
    constant: Mapping[str, float],
    in_groups: bool,
    predicted: np.ndarray,
    shown: Sequence[str] = (),
) -> list[str]:
    """A line for each reason for caution.

    Args:
        constant: share of each modality's features that never change.
        in_groups: whether features were standardised within groups.
        predicted: [L] int, the classes that held-out clips are taken for.
        shown: the modalities that these show.
    """
    lines = []
    if len(classes := np.unique(predicted)) == 1:
        lines.append(f"every held-out clip is taken for {dataset.labels[classes[0]]}: nothing has been learned")
    valid = dataset.candidate_modalities
    if valid is not None and (more := [name for name in shown if name not in valid]):
        lines.append(
            f"all is chosen and cross-validated by clips that show {', '.join(more)} as well, which no candidate has"
        )
    for modality, share in constant.items():
        if share > 0.5:
            lines.append(f"{share:.0%} of the numbers of {modality} are the same for every clip")
    if in_groups:
        lines.append(
            "features are standardised within each group, test clips' own included and without labels: the scores hold "
            "for groups of many clips of mixed classes, and less for a few clips of one class"
        )
    return [*lines, *thin_folds(dataset.labels, folds), *dataset.warnings]


def thin_folds(labels: Sequence[str], folds: Folds) -> Iterator[str]:
    """Lines about classes that are held out as a whole, and folds of one class."""
    classes = {fold: set(folds.labels[folds.fold_of == fold]) for fold in np.unique(folds.fold_of)}
    if whole := [name for i, name in enumerate(labels) if sum(i in held for held in classes.values()) == 1]:
        yield f"all labelled clips of {', '.join(whole)} are held out at once, by networks that never saw the class"
    if single := [str(fold + 1) for fold, held in classes.items() if len(held) == 1]:
        yield f"held-out clips of one class alone (fold {', '.join(single)}): such a fold's score says little"
