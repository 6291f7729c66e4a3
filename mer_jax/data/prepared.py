"""Reading prepared data sets (mer_jax/data/builder.py) through the same clips as any other."""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.clips import SPLITS, Absent, Clip, Dataset, Problem, valid_modalities
from mer_jax.data.decoding import rgb_images
from mer_jax.data.tables import is_usable, read_table
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import load_json, of_the_system
from mer_jax.runtime.kept import Damaged, file_digests, read_kept

SAMPLE_RATE = 16_000  # Hz, of the stored sound
INDEX, DESCRIPTION = "clips.csv", "dataset.json"
RECORDS = ".array_record"  # in their files' names
ENCODERS = "encoders.json"  # modality -> the checkpoint that the data set was prepared for
FILES = "files.json"  # size and digest of these and of all records
VALID = "modalities"  # a further column, where not all modalities of all clips count
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
    name: str  # of the clip
    split: str
    position: int
    fingerprint: str  # of its content

    def identity(self) -> str:
        """Names the record's content."""
        return self.fingerprint

    def read(self, modality: str) -> dict[str, Any]:
        """The whole record. Absent where it says that the modality is."""
        try:
            record = source(self.root, self.split)[self.position]
            reasons = {**json.loads(record["absent"])}
        except Exception as error:  # whatever a damaged file makes of TFDS and what it stands on
            if of_the_system(error):
                raise
            raise damaged(self.root, f"record {self.position} of its {self.split} split cannot be read") from error
        if (name := as_text(record["id"])) != self.name:
            raise damaged(self.root, f"record {self.position} of its {self.split} split is {name}, not {self.name}")
        if modality in reasons:
            raise Absent(str(reasons[modality]))
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


def damaged(root: Path, what: str) -> DataError:
    """The error that a prepared data set is not as it was written."""
    return DataError(f"{root}: {what}; remove that folder, and prepare the data set again")


def as_text(value: Any) -> str:
    """A text of a record, which TFDS gives as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def check_files(root: Path, whole: bool = False) -> None:
    """Compares the files of a prepared data set with what they were when they were written.

    whole: reads the records, too, whose sizes do else; one that is damaged is noticed when it is read.

    Raises:
        DataError: one has changed.
    """
    if not (root / FILES).exists():
        return  # made by an earlier version
    try:
        files = read_kept(root / FILES, parse=sizes_and_digests)
    except Damaged as reason:
        raise damaged(root, str(reason)) from reason
    for name, (size, digest) in files.items():
        path = root / name
        if not path.is_file() or path.stat().st_size != size:
            raise damaged(root, f"{name} is not as it was written")
        if (whole or RECORDS not in name) and file_digests([path]) != [digest]:
            raise damaged(root, f"{name} is not as it was written")


def sizes_and_digests(content: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Name -> size in bytes and digest, as FILES has them."""
    return {name: (size, digest) for name, (size, digest) in content["files"].items()}


def from_jpeg(files: list[bytes]) -> np.ndarray:
    """JPEG files of one size -> uint8 RGB [T, H, W, 3]."""
    try:
        return np.stack([np.asarray(image) for image in rgb_images(map(io.BytesIO, files))])
    except Exception as error:  # as of any other images
        raise Absent(f"its pictures cannot be read: {str(error) or type(error).__name__}") from error


def read_prepared(root: Path) -> Dataset:
    """A prepared data set; root: the folder of its version, `.../mer/{name}/1.0.0`."""
    if not (root / DESCRIPTION).exists():
        raise DataError(f"{root}: no prepared data set in it; expected the folder that mer_jax.prepare has printed")
    check_files(root)
    name, labels, warnings, problems = read_description(root)
    positions: Counter[str] = Counter()
    clips, truth = [], {}
    for row in read_table(root / INDEX, INDEX_COLUMNS):
        split = row["split"]
        if not is_usable(row["name"]) or split not in SPLITS:
            raise damaged(root, f"its {INDEX} has a clip {row['name']!r} in a split {split!r}")
        if unknown := {row["label"], row["truth"]} - {"", *labels}:
            raise damaged(root, f"its {INDEX} has a label {min(unknown)!r} that its {DESCRIPTION} lacks")
        record = Record(root, row["name"], split, positions[split], row["fingerprint"])
        positions[split] += 1
        label, group = row["label"] or None, row["group"] or None
        clip = Clip(row["name"], split, transcript=row["transcript"], label=label, group=group, prepared=record)
        try:
            clips.append(replace(clip, modalities=valid_modalities(row.get(VALID, ""))))
        except ValueError as error:
            raise damaged(root, f"its {INDEX} has an {error}") from error
        if row["truth"]:
            truth[row["name"]] = row["truth"]
    return Dataset(name, labels, tuple(clips), truth, problems, warnings)


def prepared_sources(root: Path) -> dict[str, str]:
    """Modality -> the checkpoint that a prepared data set was made for; none where an earlier version made it.

    Raises:
        UsageError: that file is damaged, so that what the data set was made for has to be said.
    """
    try:
        return read_kept(root / ENCODERS) if (root / ENCODERS).exists() else {}
    except Damaged as reason:
        raise UsageError(f"{reason}; say encoders=..., or prepare the data set again") from reason


def read_description(root: Path) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[Problem, ...]]:
    """Name, labels, warnings and problems of a prepared data set."""
    description = load_json(root / DESCRIPTION)
    try:
        name, labels, warnings = (description[key] for key in ("name", "labels", "warnings"))
        problems = tuple(Problem(**problem) for problem in description["problems"])
        told = [text for each in problems for text in (each.name, each.split, each.modality or "", each.reason)]
        "".join([name, *labels, *warnings, *told])  # raises where one of them is no text
    except (TypeError, KeyError) as error:
        raise damaged(root, f"its {DESCRIPTION} holds other things than this version writes") from error
    return name, tuple(labels), tuple(warnings), problems
