"""Which streams the scores choose, by hand, and that a fold has no say in what it is scored by."""

import numpy as np
import pytest

from mer_jax.fusion.stream_choice import Wafs, all_choices, best_of, choose, sets_to_train

MODALITY_OF = {"a": "speech", "b": "speech", "c": "speech", "face": "image"}


def test_the_best_of_each_modality_of_every_and_of_all():
    sets = best_of({"a": 0.2, "b": np.nan, "c": 0.6, "face": 0.5}, MODALITY_OF)
    assert sets == {
        ("c",): "best 1 of speech",
        ("a", "c"): "best 2 of speech",
        ("a", "b", "c"): "best 3 of speech",
        ("face",): "best 1 of image",
        ("c", "face"): "best 1 of every modality",
        ("a", "c", "face"): "best 2 of every modality",
        ("a", "b", "c", "face"): "best 3 of every modality",
    }


def wafs_of(folds):
    """Of one seed, the same whatever else its networks have not seen."""
    return Wafs(np.array([folds]), np.repeat([[folds]], len(folds), axis=0))


# Fold 1 alone likes b, and so much that all folds do; without it they like a.
ALONE = {"a": [0.6, 0.1, 0.6], "b": [0.5, 0.9, 0.5], "c": [0.1, 0.1, 0.1], "face": [0.3, 0.3, 0.3]}


def test_a_fold_has_no_say_in_the_choice_that_it_is_scored_by():
    alone = {stream: wafs_of(waf) for stream, waf in ALONE.items()}
    sets = sets_to_train(alone, MODALITY_OF)
    assert sets["a", "b"] == "best 2 of speech" and sets["a",] == sets["a", "face"] == ""  # for fold 1 alone
    wafs = {streams: wafs_of(np.mean([ALONE[each] for each in streams], axis=0)) for streams in sets}
    wafs |= {(stream,): waf for stream, waf in alone.items()}
    choice = choose(wafs, MODALITY_OF)
    assert choice.streams == ("b",) and choice.by_fold == [("b",), ("a",), ("b",)]
    assert choice.waf.tolist() == [[0.5, 0.1, 0.5]]  # far below the 0.63 of b
    wafs["a", "b"] = wafs_of([0.8, 0.8, 0.8])
    choices = all_choices(wafs, MODALITY_OF)
    assert list(choices) == ["one of speech", "of speech", "one of all", "of all"]
    assert choices["of speech"].streams == ("a", "b") and choices["one of all"].streams == ("b",)
    assert choices["of speech"].waf.mean() == pytest.approx(0.8)


def test_a_fold_is_scored_by_what_networks_choose_that_have_not_seen_it():
    alone = {"a": wafs_of([0.6, 0.6]), "face": wafs_of([0.5, 0.5])}
    alone["a"].without[1, :, 0] = 0.1  # of networks that have seen no clip of fold 1, on those of fold 0
    alone["a"].without[1, :, 1] = np.nan
    wafs = {(stream,): own for stream, own in alone.items()} | {("a", "face"): wafs_of([0.3, 0.3])}
    choice = choose(wafs, {"a": "speech", "face": "image"})
    assert choice.streams == ("a",) and choice.by_fold == [("a",), ("face",)] and choice.waf.tolist() == [[0.6, 0.5]]


def test_what_has_diverged_is_never_chosen():
    nothing, some = wafs_of([np.nan, np.nan]), wafs_of([0.1, 0.1])
    wafs = {("a",): nothing, ("b",): some, ("a", "b"): nothing}
    assert choose(wafs, {"a": "speech", "b": "image"}).streams == ("b",)
