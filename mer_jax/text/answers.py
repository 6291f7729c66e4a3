"""What an annotator says about a transcript, and how a model's written reply becomes a ranking."""

import ast
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, Protocol

# What reasoning models enclose their thoughts in: <think>, <thinking>, [THINK], <seed:think>, ...
TAG = re.compile(r"[<\[◁](/?)(?:\w+:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)[>\]▷]", re.IGNORECASE)
# Any other: <plan>, [/X], <|START_THINKING|>, <unused94>, ... What ends such a part, or is a token of its own, parts.
MARKER = re.compile(r"(?:[<◁]|&lt;)[|｜]?\s*/?\s*[^\W\d][^<>{}\n]{0,80}?(?:[>▷]|&gt;)|\[/?[^\W\d]\w*\]")
PART = re.compile(r"(?:[<◁]|&lt;)\s*/|\[/|<[|｜]|<.*[|｜]>|<unused")
# What gpt-oss puts before its last word, whole or as servers leave it that drop the tokens: analysis...assistantfinal
CHANNEL = re.compile(r"<\|channel\|>final.*?<\|message\|>|\A\s*analysis\w.*?assistant\s*final", re.DOTALL)
# A line of such a word, or that begins with it and a colon, begins a part: **Thinking:**, ### Answer, Final answer: ...
HEADING = re.compile(
    r"^[\s#>*_]*(?:(thinking|thoughts?|reasoning|analysis|draft)|(?:final |my )?(?:answer|output|response|result))"
    r"(?:[\s*_]*:[*_]*|[*_]*$)",
    re.IGNORECASE | re.MULTILINE,
)
FULL_WIDTH = str.maketrans("｛｝［］：，“”", '{}[]:,""')


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


def parse(reply: str, labels: Sequence[str], whole: bool = True) -> tuple[str, ...]:
    """The ranking of a reply `{"ranking": [...]}`, with every label exactly once.

    Thoughts are passed over, and of parts between markers the last that holds a list of labels counts; prose or a
    Markdown fence may enclose it, the list may stand alone, labels may be written in another case, as numbers, or with
    blanks and marks around them. Of several rankings all must be the same.

    whole: False of a reply that the server cut short, whose last thoughts may hold a draft.

    Raises Unusable for anything else.
    """
    for text in _parts("\n".join(_last_words(reply, whole)), whole):
        values = _written_values(text)
        lists = [value for value in values if isinstance(value, list)]
        named = [entry for value in values if isinstance(value, dict) for entry in _rankings(value)]
        if named or any(isinstance(_spelled(entry, labels), str) for value in lists for entry in value):
            break
    candidates = named or lists
    if not candidates:
        raise Unusable("reply holds no list of labels" if values else "reply is not JSON")
    rankings, reasons = [], []
    for candidate in candidates:
        try:
            rankings.append(_ranking(candidate, labels))
        except Unusable as unusable:
            reasons.append(unusable)
    if not rankings:
        raise reasons[-1]
    if len(set(rankings)) > 1:
        raise Unusable("reply holds several rankings")
    return rankings[0]


def _last_words(reply: str, whole: bool) -> list[str]:
    """A reply without the thoughts in it. Where these do not end, what they end with may be the answer."""
    if channels := list(CHANNEL.finditer(reply)):
        return [reply[channels[-1].end() :]]
    if not whole and re.match(r"\s*analysis\w", reply):
        return []
    spoken, depth, start = [], 0, 0
    for tag in TAG.finditer(reply):
        if depth == 0:
            spoken.append(reply[start : tag.start()])
        if not tag[1]:
            depth += 1
        elif depth:
            depth -= 1
        else:  # what opened these thoughts stood in the prompt
            spoken = []
        start = tag.end()
    return [*spoken, reply[start:]] if whole or not depth else spoken


def _parts(text: str, whole: bool) -> list[str]:
    """What stands between markers and headings, the last first, then under thoughts' headings, and then all of it.

    All, since a marker may stand within a JSON string.
    """
    markers, headings = list(MARKER.finditer(text)), list(HEADING.finditer(text))
    if markers and not whole and not re.search("/|end", markers[-1][0], re.IGNORECASE):
        text = text[: markers.pop().start()]  # thoughts, for all that is known
    if headings and not whole and headings[-1][1]:
        text = text[: headings[-1].start()]
    thoughtful = {0: False} | {marker.end(): False for marker in markers if PART.match(marker[0])}
    thoughtful |= {heading.end(): bool(heading[1]) for heading in headings if heading.end() < len(text)}
    parts = [(thoughtful[start], text[start:end]) for start, end in pairwise([*sorted(thoughtful), len(text)])]
    return [*(part for thought in (False, True) for is_one, part in reversed(parts) if is_one == thought), text]


def _written_values(text: str) -> list[Any]:
    """JSON objects and lists in a text, or what is meant for such, in Python's quotes or Chinese marks."""
    values, decoder, position = [], json.JSONDecoder(strict=False), 0  # with new lines in strings
    while start := re.compile(r"[{\[]").search(text, position):
        try:
            value, position = decoder.raw_decode(text, start.start())
            values.append(value)
        except ValueError:
            position = start.end()
        except RecursionError:
            break
    if any(isinstance(value, dict) for value in values):
        return values
    text = text.translate(FULL_WIDTH)
    unescaped = text.replace("\\n", "\n").replace('\\"', '"')  # JSON in a string of JSON
    kinds = r"\{[^{}]*\}", r"\[[^\[\]{}]*\]"  # lists within what is no Python as well
    for match in chain(*(re.finditer(kind, meant) for meant in (text, unescaped) for kind in kinds)):
        try:
            values.append(ast.literal_eval(match[0]))
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return values


def _rankings(value: Any) -> Iterator[Any]:
    """What is called a ranking in a JSON value."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if str(key).strip().casefold() == "ranking":
                yield entry
            else:
                yield from _rankings(entry)


def _ranking(value: Any, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that a list names, which must be all of them."""
    value = [_spelled(entry, labels) for entry in value] if isinstance(value, list) else [None]
    if not all(isinstance(entry, str) for entry in value):
        raise Unusable("reply holds no list of labels")
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(_bare(label), []).append(label)
    ranking: list[str] = []
    for entry in value:
        meant = [entry] if entry in labels else alike.get(_bare(entry), [])
        if len(meant) != 1:
            raise Unusable("reply holds an invented label")
        ranking += meant
    if len(set(ranking)) < len(ranking):
        raise Unusable("reply holds a label twice")
    if len(ranking) < len(labels):
        raise Unusable("reply lacks a label")
    return tuple(ranking)


def _spelled(entry: Any, labels: Sequence[str]) -> Any:
    """A number as the label that it is, if there is such a label."""
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        return entry
    return next((label for label in (str(entry), f"{entry:g}") if label in labels), entry)


def _bare(label: str) -> str:
    """A label without case, and without the number, blanks and marks around it."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return re.sub(r"^\s*\d+\s*[.):]|[\W_]+", " ", folded).strip()
