"""Reading prepared data sets (mer_jax/data/builder.py) through the same clips as any other."""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mer_jax.data.clips import Absent, Clip, Dataset, Problem
from mer_jax.data.tables import read_table
from mer_jax.runtime.errors import DataError

SAMPLE_RATE = 16_000  # Hz, of the stored sound
INDEX, DESCRIPTION = "clips.csv", "dataset.json"
INDEX_COLUMNS = ("name", "split", "label", "truth", "group", "transcript", "fingerprint")


@cache
def source(root: Path, split: str) -> Any:
    """A split's records, read at random (`tfds.data_source`)."""
    import tensorflow_datasets as tfds  # half a second, for prepared data sets only

    return tfds.builder_from_directory(str(root)).as_data_source(split)


@dataclass(frozen=True)
class Record:
    """One clip's record."""

    root: Path
    split: str
    position: int
    fingerprint: str  # of its content

    def identity(self) -> str:
        """Names the record's content."""
        return self.fingerprint

    def read(self, modality: str) -> dict[str, Any]:
        """The whole record. Absent where it says that the modality is."""
        record = source(self.root, self.split)[self.position]
        reasons = json.loads(record["absent"])
        if modality in reasons:
            raise Absent(reasons[modality])
        return record

    def sound(self, sample_rate: int) -> np.ndarray:
        """Mono int16 [S]."""
        if sample_rate != SAMPLE_RATE:
            raise Absent(f"prepared at {SAMPLE_RATE} Hz, not {sample_rate} Hz")
        return self.read("speech")["waveform"]

    def frames(self, choose: Callable[[int], np.ndarray]) -> np.ndarray:
        """Chosen ones of the stored frames, uint8 RGB [T, H, W, 3]."""
        stored = self.read("video")["frames"]
        return from_jpeg([stored[i] for i in choose(len(stored))])

    def faces(self) -> np.ndarray:
        """Aligned crops, uint8 RGB [T, H, W, 3]."""
        return from_jpeg(self.read("image")["faces"])


def from_jpeg(files: list[bytes]) -> np.ndarray:
    """JPEG files of one size -> uint8 RGB [T, H, W, 3]."""
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def read_prepared(root: Path) -> Dataset:
    """A prepared data set; root: the folder of its version, `.../mer/{name}/1.0.0`."""
    if not (root / DESCRIPTION).exists():
        raise DataError(f"{root}: no prepared data set in it; expected the folder that mer_jax.prepare has printed")
    try:
        description = json.loads((root / DESCRIPTION).read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{root / DESCRIPTION}: cannot be read as JSON ({error}); prepare the data set anew") from error
    positions: Counter[str] = Counter()
    clips, truth = [], {}
    for row in read_table(root / INDEX, INDEX_COLUMNS):
        split = row["split"]
        record = Record(root, split, positions[split], row["fingerprint"])
        positions[split] += 1
        label, group = row["label"] or None, row["group"] or None
        clip = Clip(row["name"], split, transcript=row["transcript"], label=label, group=group, prepared=record)
        clips.append(clip)
        if row["truth"]:
            truth[row["name"]] = row["truth"]
    problems = tuple(Problem(**problem) for problem in description["problems"])
    labels, warnings = tuple(description["labels"]), tuple(description["warnings"])
    return Dataset(description["name"], labels, tuple(clips), truth, problems, warnings)
