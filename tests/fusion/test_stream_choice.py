"""Which streams the scores choose, by hand, and that a fold has no say in what it is scored by."""

import numpy as np
import pytest

from mer_jax.fusion.stream_choice import all_choices, best_of, choose, sets_to_train

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


# Fold 1 alone likes b, and so much that all folds do; without it they like a.
ALONE = {"a": [0.6, 0.1, 0.6], "b": [0.5, 0.9, 0.5], "c": [0.1, 0.1, 0.1], "face": [0.3, 0.3, 0.3]}


def test_a_fold_has_no_say_in_the_choice_that_it_is_scored_by():
    alone = {stream: np.array([waf]) for stream, waf in ALONE.items()}
    sets = sets_to_train(alone, MODALITY_OF)
    assert sets["a", "b"] == "best 2 of speech" and sets["a",] == sets["a", "face"] == ""  # for fold 1 alone
    wafs = {streams: np.mean([alone[each] for each in streams], axis=0) for streams in sets}
    wafs |= {(stream,): waf for stream, waf in alone.items()}
    choice = choose(wafs, MODALITY_OF)
    assert choice.streams == ("b",) and choice.by_fold == [("b",), ("a",), ("b",)]
    assert choice.waf.tolist() == [[0.5, 0.1, 0.5]]  # far below the 0.63 of b
    wafs["a", "b"] = np.array([[0.8, 0.8, 0.8]])
    choices = all_choices(wafs, MODALITY_OF)
    assert list(choices) == ["one of speech", "of speech", "one of all", "of all"]
    assert choices["of speech"].streams == ("a", "b") and choices["one of all"].streams == ("b",)
    assert choices["of speech"].waf.mean() == pytest.approx(0.8)


def test_what_has_diverged_is_never_chosen():
    wafs = {("a",): np.full((2, 2), np.nan), ("b",): np.full((2, 2), 0.1), ("a", "b"): np.full((2, 2), np.nan)}
    assert choose(wafs, {"a": "speech", "b": "image"}).streams == ("b",)
