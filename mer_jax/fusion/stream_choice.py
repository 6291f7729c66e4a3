"""Which streams to fuse, by what each is worth alone, and what a choice by scores is worth on clips that had no say."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Streams = tuple[str, ...]


class Wafs(NamedTuple):
    """Honest WAF of one set of streams, of networks of each seed; nan where they diverged."""

    folds: np.ndarray  # [S, F], of each fold's held-out clips
    without: np.ndarray  # [F, S, F], the same of networks that have seen no clip of a fold, which comes first, either


class Choice(NamedTuple):
    """What the scores choose."""

    streams: Streams  # by all folds: what a run is to have; its own score is flattered
    waf: np.ndarray  # [S, F], of each fold's held-out clips by the streams that are chosen without them
    by_fold: list[Streams]  # these


def best_of(worth: Mapping[str, float], modality_of: Mapping[str, str]) -> dict[Streams, str]:
    """Sets of streams -> what they are: the best 1..n of each modality, of every modality together, and of all.

    worth: of each stream alone; the first of equals is the better. modality_of: stream -> modality, in their order.
    """
    ranked = sorted(modality_of, key=lambda stream: -np.nan_to_num(worth[stream], nan=-1.0))
    of_modality = {own: [each for each in ranked if modality_of[each] == own] for own in modality_of.values()}
    sets: dict[Streams, str] = {}

    def add(streams: Iterable[str], name: str) -> None:
        chosen = {*streams}
        sets.setdefault(tuple(each for each in modality_of if each in chosen), name)

    for own, streams in of_modality.items():
        for n in range(1, len(streams) + 1):
            add(streams[:n], f"best {n} of {own}")
    for n in range(1, max(map(len, of_modality.values())) + 1):
        add((each for streams in of_modality.values() for each in streams[:n]), f"best {n} of every modality")
    for n in range(1, len(ranked) + 1):
        add(ranked[:n], f"best {n} of all")
    return sets


def sets_to_train(alone: Mapping[str, Wafs], modality_of: Mapping[str, str]) -> dict[Streams, str]:
    """Those of `best_of` by all folds, then those that are so for the choice of one fold alone, without a name.

    alone: by stream, of networks that see nothing else.
    """
    sets = best_of(worth_by(alone), modality_of)
    for fold in range(len(next(iter(alone.values())).without)):
        for streams in best_of(worth_by(alone, fold), modality_of):
            sets.setdefault(streams, "")
    return sets


def all_choices(wafs: Mapping[Streams, Wafs], modality_of: Mapping[str, str]) -> dict[str, Choice]:
    """By names: of one stream and of any of them, for each modality that has several, then for all together.

    wafs: as of `choose`.
    """
    owners = [*modality_of.values()]
    choices: dict[str, Choice] = {}
    for own in dict.fromkeys(each for each in owners if owners.count(each) > 1):
        choices |= {
            f"one of {own}": choose(wafs, modality_of, own, single=True),
            f"of {own}": choose(wafs, modality_of, own),
        }
    return choices | {"one of all": choose(wafs, modality_of, single=True), "of all": choose(wafs, modality_of)}


def choose(wafs: Mapping[Streams, Wafs], modality_of: Mapping[str, str], own: str = "", single: bool = False) -> Choice:
    """The best set of streams, and what is chosen where one fold after the other has no say, in the ranking either.

    Args:
        wafs: of `sets_to_train`, those of one stream among them.
        own: the modality that all of them are to be of; "": any.
        single: whether it is to be one stream.
    """
    alone = {stream: wafs[stream,] for stream in modality_of}

    def best(unseen: int | None = None) -> Streams:
        sets = [streams for streams in best_of(worth_by(alone, unseen), modality_of) if len(streams) == 1 or not single]
        if own:
            sets = [streams for streams in sets if {modality_of[each] for each in streams} == {own}]
        worth = worth_by({streams: wafs[streams] for streams in sets}, unseen)
        return max(sets, key=lambda streams: np.nan_to_num(worth[streams], nan=-1.0))

    by_fold = [best(fold) for fold in range(len(next(iter(alone.values())).without))]
    waf = np.stack([wafs[streams].folds[:, fold] for fold, streams in enumerate(by_fold)], axis=1)
    return Choice(best(), waf, by_fold)


def worth_by(wafs: Mapping[Any, Wafs], unseen: int | None = None) -> dict[Any, float]:
    """Mean over seeds and folds; or over those but `unseen`, by networks that have seen no clip of it."""
    if unseen is None:
        return {key: float(own.folds.mean()) for key, own in wafs.items()}
    return {key: float(np.delete(own.without[unseen], unseen, axis=1).mean()) for key, own in wafs.items()}
