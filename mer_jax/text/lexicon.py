"""The offline annotator: ranks emotions by the words of a small Chinese and English lexicon."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources

from mer_jax.text.ranking import Answer, Usage


class LexiconAnnotator:
    """See `Annotator`."""

    name = "lexicon"
    prompt = "1"
    stopped = ""

    def __init__(self) -> None:
        self.model = hashlib.blake2b(json.dumps(words()).encode(), digest_size=6).hexdigest()

    def plan(self, transcripts: Sequence[str], labels: Sequence[str], spent: Usage) -> str:
        return f"{len(transcripts):,} look-ups of words, nothing to pay"

    def rank(self, transcripts: Iterable[str], labels: Sequence[str], spent: Usage) -> Iterator[Answer]:
        for transcript in transcripts:
            yield Answer(transcript, tuple(rank([transcript], labels)[0]))


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
