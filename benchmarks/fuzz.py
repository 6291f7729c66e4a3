"""Damaged media and csv files by the hundred: no crash, no hang, no memory blow-up, every file accounted for.

    python -m benchmarks.fuzz [--media=500] [--tables=100] [--seed=0] [--clips=FOLDER]

No peer: no worker may be lost, and the endings must add up. Whole clips (from FOLDER, or written here) are cut,
bit-flipped, zeroed, misnamed, given absurd sizes and durations; each is opened, and its sound, frames and faces are
read as a run would.
"""

import json
import resource
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.timing import show
from mer_jax.data.check import report
from mer_jax.data.clip_files import MEDIA_SUFFIXES
from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, time_limit
from mer_jax.data.detect import FaceDetector
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.records import PrepareSettings, RecordSettings, prepare_clip
from mer_jax.data.workers import map_in_workers
from mer_jax.runtime.errors import DataError
from tests.data.damaged_files import ENCODINGS, MEDIA_DAMAGE, TABLE_DAMAGE, damaged_media, damaged_table
from tests.data.media_files import numbered_frames, tone, write_video

MEDIA = flags.DEFINE_integer("media", 500, "Damaged media files.")
TABLES = flags.DEFINE_integer("tables", 100, "Damaged csv files.")
SEED = flags.DEFINE_integer("seed", 0, "Of the damage.")
CLIPS = flags.DEFINE_string(
    "clips", None, "Folder of whole clips under 3 MB; small ones are written where it is missing."
)
SECONDS = 20.0
SETTINGS = RecordSettings(
    PrepareSettings(frames=8, frame_side=128, jpeg_quality=90),
    ExtractionSettings(most_face_frames=64, time_limit=SECONDS),
    face_size=64,
)
PLAIN_COLUMNS = dict(zip(COLUMNS, COLUMNS, strict=True))


def ending_of(record: dict[str, Any] | Absent) -> str:
    """How preparing a clip ended, in a word or two per modality."""
    if isinstance(record, Absent):
        return str(record)
    absent = json.loads(record["absent"])
    return "; ".join(f"{modality}: {reason.split(':')[0][:24]}" for modality, reason in absent.items()) or "all there"


def fuzz_media(folder: Path, sources: list[Path], rng: np.random.Generator) -> Counter[str]:
    """Endings of the media files, counted."""
    clips, kinds = [], []
    for number in range(MEDIA.value):
        source = sources[int(rng.integers(len(sources)))]
        kind = str(rng.choice(MEDIA_DAMAGE))
        suffix = source.suffix if rng.random() < 0.9 else str(rng.choice(MEDIA_SUFFIXES))
        path = folder / f"{number:05d}{suffix}"
        path.write_bytes(damaged_media(source.read_bytes(), kind, rng))
        kinds.append(kind)
        clips.append(Clip(path.stem, "train", media=path))
    endings: Counter[str] = Counter()
    job = partial(prepare_clip, settings=SETTINGS)
    records = map_in_workers(job, clips, lambda clip: time_limit(clip, SECONDS), answer=FaceDetector().find)
    for kind, record in zip(kinds, records, strict=True):
        endings[f"{kind}: {ending_of(record)}"] += 1
    assert sum(endings.values()) == MEDIA.value
    return endings


def fuzz_tables(folder: Path, rng: np.random.Generator) -> Counter[str]:
    """Endings of folder data sets with a damaged clips.csv, counted."""
    endings: Counter[str] = Counter()
    for number in range(TABLES.value):
        root = folder / f"{number:05d}"
        root.mkdir()
        kind, encoding = str(rng.choice(TABLE_DAMAGE)), str(rng.choice(ENCODINGS))
        (root / "clips.csv").write_bytes(damaged_table(kind, encoding, rng))
        try:
            dataset = read_folder(root, PLAIN_COLUMNS, {})
            report(dataset, ())
            ending = "read"
        except DataError as error:
            ending = str(error).partition(": ")[2][:30]
        endings[f"{kind}, {encoding}: {ending}"] += 1
    return endings


def main(_: list[str]) -> None:
    """The benchmark."""
    rng, start = np.random.default_rng(SEED.value), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if CLIPS.value:
            sources = [p for p in sorted(Path(CLIPS.value).iterdir()) if p.suffix in MEDIA_SUFFIXES]
            sources = [path for path in sources if path.stat().st_size < 3e6]
        else:
            sources = [folder / f"whole{suffix}" for suffix in (".mp4", ".mkv", ".mov", ".avi")]
            for source in sources:
                write_video(source, numbered_frames(20), tone(2.0), lossy=True)
        media = fuzz_media(folder, sources, rng)
        tables = fuzz_tables(folder, rng)
    peaks = {
        name: round(resource.getrusage(who).ru_maxrss / 2**20, 2)
        for name, who in (("this process", resource.RUSAGE_SELF), ("a worker that has ended", resource.RUSAGE_CHILDREN))
    }
    show(
        [
            {"count": count, "ending": ending}
            for endings in (media, tables)
            for ending, count in sorted(endings.items())
        ],
        media=sum(media.values()),
        tables=sum(tables.values()),
        workers_lost=sum(count for ending, count in media.items() if "crashed" in ending or "not done" in ending),
        seconds=round(time.perf_counter() - start, 1),
        peak_gib=peaks,
    )


if __name__ == "__main__":
    app.run(main)
