"""Every answer that was paid for, kept as it comes, so that nothing is asked for twice."""

import fcntl
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from mer_jax.runtime.files import MOST_BYTES, open_regular, write_through
from mer_jax.runtime.kept import KEPT, digest_of
from mer_jax.runtime.progress import progress
from mer_jax.runtime.signals import stop_requests
from mer_jax.text.answers import Annotator, Answer, Usage


class Spending(Protocol):
    """What answers cost."""

    def add(self, other: Any) -> None:
        """Adds what others did."""


class Entry(Protocol):
    """An answer, a dataclass."""

    @property
    def usage(self) -> Any:
        """What it cost."""

    @property
    def final(self) -> bool:
        """Whether asking again cannot help."""


Kept = TypeVar("Kept", bound=Entry)
Spent = TypeVar("Spent", bound=Spending)


class Cache(ABC, Generic[Kept, Spent]):
    """The answers of one asker: a JSON line each, only appended to.

    A context manager: while it is open, another process that opens the same file waits. A process may be killed
    at any moment; a line that it did not finish is passed over.

    Attributes:
        answers: by what was asked about.
        spent: over all askers of the file, answered or not.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], spent: Spent):
        self.path, self.identity, self.spent = path, {**identity}, spent
        self.answers: dict[str, Kept] = {}

    @abstractmethod
    def parse(self, entry: dict[str, Any], whose: Mapping[str, Any]) -> Kept:
        """An answer from what `append` has written, but for whose it is.

        Raises ValueError, KeyError, TypeError or AttributeError where it is none.
        """

    @abstractmethod
    def note(self, answer: Kept) -> None:
        """Takes an answer to `answers`."""

    def read_line(self, line: bytes) -> tuple[dict[str, Any], Kept]:
        """Whose answer a line is, and the answer. Raises as `parse`; those of earlier versions have no checksum."""
        entry = json.loads(line)
        if (checksum := entry.pop(KEPT, None)) is not None and checksum != digest_of(entry):
            raise ValueError("not as it was written")
        whose = {key: entry.pop(key) for key in self.identity}
        return whose, self.parse(entry, whose)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "ab", buffering=0)  # a line is one write, at the file's end
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another process that uses {self.path}", file=sys.stderr, flush=True)
            fcntl.flock(self.file, fcntl.LOCK_EX)
        line, damaged = b"\n", 0
        with open_regular(self.path) as lines:
            for line in iter(partial(lines.readline, MOST_BYTES), b""):
                try:
                    identity, answer = self.read_line(line)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    damaged += line != b"\n"
                    continue
                self.spent.add(answer.usage)
                if identity == self.identity:
                    self.note(answer)
        if damaged:
            print(f"  {self.path}: {damaged:,} lines cannot be read: asked again", file=sys.stderr, flush=True)
        if not line.endswith(b"\n"):  # what comes next must not continue an unfinished line
            write_through(self.file, b"\n")
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def append(self, answer: Kept) -> None:
        """Keeps an answer. Once this returns, it outlives the process."""
        entry = {**self.identity, **asdict(answer)}  # type: ignore[call-overload]
        line = json.dumps({**entry, KEPT: digest_of(entry)}, ensure_ascii=False)
        # A reply may hold half a surrogate pair: backslashreplace writes the JSON escape of it.
        write_through(self.file, line.encode("utf-8", "backslashreplace") + b"\n")
        self.spent.add(answer.usage)
        self.note(answer)

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """What has no answer yet, or one that asking again may better."""
        return [each for each in wanted if each not in self.answers or not self.answers[each].final]

    def fill(
        self, missing: Sequence[str], ask: Callable[[Iterator[str]], Iterable[Kept]], name: str, unit: str
    ) -> None:
        """Asks for what is missing. A first SIGINT or SIGTERM ends it once the answers under way are kept."""
        with stop_requests() as stopping, progress(name, len(missing), unit) as bar:
            for answer in ask(takewhile(lambda _: not stopping(), missing)):
                self.append(answer)
                bar.update(1)


def file_name(name: str, model: str, variant: str) -> str:
    """Of a cache."""
    model = re.sub(r"[^\w.@-]+", "_", model)
    return f"{name}-{model}-{variant}.jsonl"


class AnswerCache(Cache[Answer, Usage]):
    """The answers of one annotator, model and prompt version for one label set, by transcript, without the replies."""

    def __init__(self, folder: Path, annotator: Annotator, labels: Sequence[str]):
        identity = {
            "annotator": annotator.name,
            "model": annotator.model,
            "prompt": annotator.prompt,
            "labels": list(labels),
        }
        super().__init__(folder / file_name(annotator.name, annotator.model, annotator.prompt), identity, Usage())

    def parse(self, entry: dict[str, Any], whose: Mapping[str, Any]) -> Answer:
        ranking, usage = entry.pop("ranking"), Usage(**entry.pop("usage"))
        if ranking is not None and not 0 < len(ranking) == len(set(ranking) & set(whose["labels"])):
            raise ValueError("not a ranking of the labels")
        if not isinstance(entry["transcript"], str) or any(type(n) is not int or n < 0 for n in vars(usage).values()):
            raise ValueError("not an answer")
        return Answer(ranking=None if ranking is None else tuple(ranking), usage=usage, **entry)

    def note(self, answer: Answer) -> None:
        self.answers[answer.transcript] = replace(answer, reply="")
