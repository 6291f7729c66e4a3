"""The offline annotator: ranks emotions by the words of a small Chinese and English lexicon."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources

from mer_jax.text.answers import Answer, Usage

ALIASES = {
    "anger": "angry",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "worry": "worried",
    "surprised": "surprise",
}


class LexiconAnnotator:
    """See `Annotator`. Labels count in any case, and as nouns (ALIASES)."""

    name = "lexicon"
    stopped = ""

    def __init__(self, guess: bool = False) -> None:
        """guess: rank, neutral first, also where no word of a transcript speaks for any label."""
        self.guess = guess
        self.prompt = "2" if guess else "3"
        self.model = hashlib.blake2b(json.dumps(words()).encode(), digest_size=6).hexdigest()

    def plan(self, transcripts: Sequence[str], labels: Sequence[str], spent: Usage) -> str:
        unknown = [label for label in labels if lemma(label) not in words()]
        lacking = f"; it has no words for {', '.join(unknown)}, which come last" if unknown else ""
        return f"{len(transcripts):,} look-ups of words, nothing to pay{lacking}"

    def rank(self, transcripts: Iterable[str], labels: Sequence[str], spent: Usage) -> Iterator[Answer]:
        for transcript in transcripts:
            ranking = rank(transcript, labels, self.guess)
            yield Answer(transcript, ranking, "" if ranking else "the lexicon has none of its words")


@cache
def words() -> dict[str, list[str]]:
    """Label -> words that speak for it."""
    return json.loads(resources.files("mer_jax.text").joinpath("lexicon.json").read_text("utf-8"))


def lemma(label: str) -> str:
    """A label as the lexicon has it, if it has it."""
    return ALIASES.get(label.lower(), label.lower())


def rank(transcript: str, labels: Sequence[str], guess: bool = False) -> tuple[str, ...] | None:
    """The labels, most likely first; None when nothing in the transcript speaks for any.

    A label scores by the characters of its words that the transcript holds; `neutral` comes after the labels that do,
    and with `guess` speaks for itself: it comes first when nothing scores. Ties keep the order of `labels`.
    """
    scores = {label: score(transcript.lower(), lemma(label)) for label in labels}
    neutral = {label: 0.5 * (lemma(label) == "neutral") for label in labels}
    if not any(scores.values()) and not (guess and any(neutral.values())):
        return None
    return tuple(sorted(labels, key=lambda label: -(scores[label] or neutral[label])))


def score(text: str, label: str) -> float:
    """Matched characters; none for `neutral`, which no word speaks for."""
    return float(sum(len(word) * text.count(word) for word in words().get(label, ())))
