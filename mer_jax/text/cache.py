"""Every answer of an annotator, kept as it comes, so that no transcript is paid for twice."""

import fcntl
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from mer_jax.runtime.files import MOST_BYTES, open_regular, write_through
from mer_jax.runtime.kept import KEPT, digest_of
from mer_jax.text.answers import Annotator, Answer, Usage


def read_line(line: bytes, identity: Iterable[str]) -> tuple[dict[str, Any], Answer]:
    """Whose answer a line of the cache is, by the keys of `identity`, and the answer.

    Raises ValueError, KeyError, TypeError or AttributeError where it is not one that was written. Those of earlier
    versions have no checksum.
    """
    entry = json.loads(line)
    if (checksum := entry.pop(KEPT, None)) is not None and checksum != digest_of(entry):
        raise ValueError("not as it was written")
    whose = {key: entry.pop(key) for key in identity}
    ranking, usage = entry.pop("ranking"), Usage(**entry.pop("usage"))
    if ranking is not None and not 0 < len(ranking) == len(set(ranking) & set(whose["labels"])):
        raise ValueError("not a ranking of the labels")
    if not isinstance(entry["transcript"], str) or any(type(n) is not int or n < 0 for n in vars(usage).values()):
        raise ValueError("not an answer")
    return whose, Answer(ranking=None if ranking is None else tuple(ranking), usage=usage, **entry)


class AnswerCache:
    """The answers of one annotator, model and prompt version for one label set: a JSON line each, only appended to.

    A context manager: while it is open, another process that opens the same file waits. A process may be killed
    at any moment; a line that it did not finish is passed over.
    """

    def __init__(self, folder: Path, annotator: Annotator, labels: Sequence[str]):
        model = re.sub(r"[^\w.@-]+", "_", annotator.model)
        self.path = folder / f"{annotator.name}-{model}-{annotator.prompt}.jsonl"
        self.identity = {
            "annotator": annotator.name,
            "model": annotator.model,
            "prompt": annotator.prompt,
            "labels": list(labels),
        }
        self.answers: dict[str, Answer] = {}  # by transcript, without the replies
        self.spent = Usage()  # over all label sets, answered or not

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
                    identity, answer = read_line(line, self.identity)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    damaged += line != b"\n"
                    continue
                if identity == self.identity:
                    self._note(answer)
                else:
                    self.spent.add(answer.usage)
        if damaged:
            print(f"  {self.path}: {damaged:,} lines cannot be read: asked again", file=sys.stderr, flush=True)
        if not line.endswith(b"\n"):  # what comes next must not continue an unfinished line
            write_through(self.file, b"\n")
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def append(self, answer: Answer) -> None:
        """Keeps an answer. Once this returns, it outlives the process."""
        entry = {**self.identity, **asdict(answer)}
        line = json.dumps({**entry, KEPT: digest_of(entry)}, ensure_ascii=False)
        # A reply may hold half a surrogate pair: backslashreplace writes the JSON escape of it.
        write_through(self.file, line.encode("utf-8", "backslashreplace") + b"\n")
        self._note(answer)

    def _note(self, answer: Answer) -> None:
        self.answers[answer.transcript] = replace(answer, reply="")
        self.spent.add(answer.usage)
