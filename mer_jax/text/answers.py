"""What an annotator says about a transcript, and how a model's written reply becomes a ranking."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class Usage:
    """What was spent, as a server bills it."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: "Usage") -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


@dataclass(frozen=True)
class Answer:
    """An annotator's last word on a transcript.

    ranking: all labels, most likely first; None without a usable reply, for the `reason`.
    reply: what the model said, word for word.
    final: False where asking again may help: the server failed, not the reply.
    """

    transcript: str
    ranking: tuple[str, ...] | None
    reason: str = ""
    reply: str = ""
    usage: Usage = field(default_factory=Usage)
    final: bool = True


class Annotator(Protocol):
    """Ranks labels for transcripts. `name`, `model` and `prompt` (a version) say which answers are the same."""

    name: str
    model: str
    prompt: str
    stopped: str  # why `rank` ended before its transcripts did; "" if it did not

    def plan(self, transcripts: Sequence[str], labels: Sequence[str], spent: Usage) -> str:
        """What `rank` would do and cost, for people."""

    def rank(self, transcripts: Iterable[str], labels: Sequence[str], spent: Usage) -> Iterator[Answer]:
        """One answer per transcript, as they come, in any order; takes transcripts only as it gets to them.

        spent: by earlier starts, counted against the budget.
        """


class Unusable(Exception):
    """A reply that is no ranking. The message is the reason."""


def schema(labels: Sequence[str]) -> dict[str, Any]:
    """JSON schema of a reply, in the subset that servers accept (which cannot forbid doubled labels)."""
    items = {"type": "string", "enum": list(labels)}
    ranking = {"type": "array", "items": items, "minItems": len(labels), "maxItems": len(labels)}
    properties = {"ranking": ranking}
    return {"type": "object", "properties": properties, "required": ["ranking"], "additionalProperties": False}


def parse(reply: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The ranking of a reply `{"ranking": [...]}`, which a Markdown fence may enclose; every label exactly once.

    Raises Unusable for anything else.
    """
    fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", reply, re.DOTALL)
    try:
        content = json.loads(fenced[1] if fenced else reply)
    except (ValueError, RecursionError):
        raise Unusable("reply is not JSON") from None
    ranking = content.get("ranking") if isinstance(content, dict) else None
    if not isinstance(ranking, list) or not all(isinstance(label, str) for label in ranking):
        raise Unusable("reply holds no list of labels")
    if set(ranking) - set(labels):
        raise Unusable("reply holds an invented label")
    if len(set(ranking)) < len(ranking):
        raise Unusable("reply holds a label twice")
    if len(ranking) < len(labels):
        raise Unusable("reply lacks a label")
    return tuple(ranking)
