"""The offline annotator: ranks emotions by the words of a small Chinese and English lexicon."""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources


@cache
def words() -> dict[str, list[str]]:
    """Label -> words that speak for it."""
    return json.loads(resources.files("mer_jax.text").joinpath("lexicon.json").read_text("utf-8"))


def rank(transcripts: Sequence[str], labels: Sequence[str]) -> list[list[str]]:
    """For each transcript the labels, most likely first.

    A label scores by the characters of its words that the transcript holds; `neutral` comes first when nothing
    scores, else after the labels that do. Ties keep the order of `labels`.
    """
    return [sorted(labels, key=lambda label: -score(text.lower(), label)) for text in transcripts]


def score(text: str, label: str) -> float:
    """Matched characters; half of one for `neutral`, which no word speaks for."""
    if label == "neutral":
        return 0.5
    return float(sum(len(word) * text.count(word) for word in words().get(label, ())))
