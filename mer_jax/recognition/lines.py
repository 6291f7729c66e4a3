"""A recognizer's lines as text: JSON, or rows of a csv."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mer_jax.runtime.files import csv_text

FORMATS = ("json", "csv")


def text_of(lines: Iterable[Mapping[str, Any]], form: str, labels: Sequence[str], first: bool) -> str:
    """Lines in one of FORMATS. first: whether the csv's header comes before them."""
    if form == "json":
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    text = csv_text(header(labels), (row(line, labels) for line in lines))
    return text if first else text.partition("\n")[2]


def header(labels: Sequence[str]) -> list[str]:
    """The columns of a csv; those of the labels hold their probabilities."""
    return ["file", "start", "end", "label", "confidence", *labels, "used", "absent", "warning", "error"]


def row(line: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """A line's cells."""
    probabilities = line.get("probabilities", {})
    times = ("" if line.get(key) is None else f"{line[key]:g}" for key in ("start", "end"))
    return [
        *(line["file"], *times, line.get("label", ""), f"{max(probabilities.values()):g}" if probabilities else ""),
        *(f"{probabilities[label]:g}" if probabilities else "" for label in labels),
        "+".join(line.get("used", ())),
        "; ".join(f"{modality}: {reason}" for modality, reason in line.get("absent", {}).items()),
        *(line.get(key, "") for key in ("warning", "error")),
    ]


def errors_in(path: Path, form: str, count: int) -> int:
    """How many of the first lines that `text_of` wrote into a file tell of an error."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = map(json.loads, file) if form == "json" else csv.DictReader(file)
        return sum(bool(line.get("error")) for line in islice(lines, count))
