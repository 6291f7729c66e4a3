"""Damaged media and csv files by the hundred: no crash, no hang, no memory blow-up, every file accounted for.

    python -m benchmarks.fuzz [--media=500] [--tables=100] [--seed=0] [--clips=FOLDER]

Whole clips (from FOLDER, or written here) are cut, bit-flipped, zeroed, misnamed, given absurd sizes and durations;
each is opened, and its sound, frames and faces are read as a run would. Prints how many ended how.
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

from mer_jax.data.builder import PrepareSettings, prepare_clip
from mer_jax.data.check import report
from mer_jax.data.clips import Clip
from mer_jax.data.detect import FaceDetector
from mer_jax.data.layouts import MEDIA_SUFFIXES, read_folder
from mer_jax.data.reading import time_limit
from mer_jax.data.workers import map_in_workers
from mer_jax.errors import DataError
from tests.data.media_files import numbered_frames, tone, write_video

MEDIA = flags.DEFINE_integer("media", 500, "Damaged media files.")
TABLES = flags.DEFINE_integer("tables", 100, "Damaged csv files.")
SEED = flags.DEFINE_integer("seed", 0, "Of the damage.")
CLIPS = flags.DEFINE_string(
    "clips", None, "Folder of whole clips under 3 MB; small ones are written where it is missing."
)
SECONDS = 20.0
SETTINGS = PrepareSettings(8, 128, 90, 64, 64, 0, SECONDS)
COLUMNS = {"label": "label", "split": "split", "group": "group", "text": "text"}


def damage(whole: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """A kind of damage, and a file that has it."""
    data = np.frombuffer(whole, np.uint8).copy()
    kind = str(rng.choice(["cut", "flipped", "zeroed", "head", "boxes", "noise", "empty", "joined"]))
    if kind == "cut":
        return kind, data[: rng.integers(1, len(data))].tobytes()
    if kind == "flipped":
        places = rng.integers(0, len(data), max(1, int(len(data) * 10 ** rng.uniform(-5, -2))))
        data[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    elif kind == "zeroed":
        start = rng.integers(0, len(data))
        data[start : start + rng.integers(1, len(data))] = 0
    elif kind == "head":
        data[: min(len(data), 512)] = rng.integers(0, 256, min(len(data), 512))
    elif kind == "boxes":  # sizes, durations and time scales of mp4's header boxes
        for name in (b"mvhd", b"mdhd", b"tkhd", b"stts", b"stsz", b"stco", b"avc1", b"hev1", b"elst"):
            at = whole.find(name)
            if at >= 0 and rng.random() < 0.5:
                place = at + 4 + int(rng.integers(0, 28))
                data[place : place + 4] = rng.choice([0, 127, 255], len(data[place : place + 4]))
    elif kind == "noise":
        data = rng.integers(0, 256, rng.integers(1, 5000)).astype(np.uint8)
    elif kind == "empty":
        data = data[:0]
    elif kind == "joined":
        return kind, whole + data[: rng.integers(1, len(data))].tobytes()
    return kind, data.tobytes()


def ending_of(record: dict[str, Any] | str) -> str:
    """How preparing a clip ended, in a word or two per modality."""
    if isinstance(record, str):
        return record
    absent = json.loads(record["absent"])
    return "; ".join(f"{modality}: {reason.split(':')[0][:24]}" for modality, reason in absent.items()) or "all there"


def fuzz_media(folder: Path, sources: list[Path], rng: np.random.Generator) -> Counter[str]:
    """Endings of the media files, counted."""
    clips, kinds = [], []
    for number in range(MEDIA.value):
        source = sources[int(rng.integers(len(sources)))]
        kind, data = damage(source.read_bytes(), rng)
        suffix = source.suffix if rng.random() < 0.9 else str(rng.choice(MEDIA_SUFFIXES))
        path = folder / f"{number:05d}{suffix}"
        path.write_bytes(data)
        kinds.append(kind)
        clips.append(Clip(path.stem, "train", media=path))
    endings: Counter[str] = Counter()
    job = partial(prepare_clip, settings=SETTINGS)
    found = map_in_workers(job, clips, lambda clip: time_limit(clip, SECONDS), answer=FaceDetector().find)
    for kind, record in zip(kinds, found, strict=True):
        endings[f"{kind}: {ending_of(record)}"] += 1
    assert sum(endings.values()) == MEDIA.value
    return endings


def fuzz_tables(folder: Path, rng: np.random.Generator) -> Counter[str]:
    """Endings of folder data sets with a damaged clips.csv, counted."""
    endings: Counter[str] = Counter()
    for number in range(TABLES.value):
        root = folder / f"{number:05d}"
        root.mkdir()
        rows = [["name", "label", "split", "text"]]
        rows += [
            [f"n{i}", str(rng.choice(["x", "y"])), "", str(rng.choice(["你好", 'a "b", c', "", "é"]))]
            for i in range(12)
        ]
        encoding, newline = (
            str(rng.choice(["utf-8", "utf-8-sig", "gb18030", "utf-16"])),
            str(rng.choice(["\n", "\r\n"])),
        )
        kind = str(
            rng.choice(["blank lines", "doubled column", "short rows", "long rows", "quote", "doubled names", "bytes"])
        )
        if kind == "blank lines":
            rows[3:3] = [[], [""], []]
        elif kind == "doubled column":
            rows[0][3] = str(rng.choice(["label", "name", "text"]))
        elif kind == "short rows":
            rows = [rows[0], *(row[: int(rng.integers(0, 4))] for row in rows[1:])]
        elif kind == "long rows":
            rows = [rows[0], *(row + ["more"] * int(rng.integers(0, 3)) for row in rows[1:])]
        elif kind == "doubled names":
            rows += rows[2:5]
        quoted = [
            ['"' + cell.replace('"', '""') + '"' if set(cell) & set('",') else cell for cell in row] for row in rows
        ]
        data = newline.join(map(",".join, quoted)).encode(encoding, "replace")
        if kind == "quote":
            data = data[:40] + b'"' + data[40:]
        elif kind == "bytes":
            places = rng.integers(0, len(data), 5)
            data = bytes(int(rng.integers(256)) if i in places else byte for i, byte in enumerate(data))
        (root / "clips.csv").write_bytes(data)
        try:
            dataset = read_folder(root, COLUMNS, {})
            report(dataset, ())
            ending = "read"
        except DataError as error:
            ending = str(error).partition(": ")[2][:30]
        endings[f"{kind}, {encoding}: {ending}"] += 1
    return endings


def main(_: list[str]) -> None:
    """Prints the endings and a line of JSON."""
    rng, start = np.random.default_rng(SEED.value), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if CLIPS.value:
            sources = [p for p in sorted(Path(CLIPS.value).iterdir()) if p.suffix in MEDIA_SUFFIXES]
            sources = [path for path in sources if path.stat().st_size < 3e6]
        else:
            sources = [folder / f"whole{suffix}" for suffix in (".mp4", ".mkv", ".mov", ".avi")]
            for source in sources:
                write_video(source, numbered_frames(20), tone(2.0))
        media = fuzz_media(folder, sources, rng)
        tables = fuzz_tables(folder, rng)
    for endings in (media, tables):
        for ending, count in sorted(endings.items()):
            print(f"{count:5d}  {ending}")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lost = sum(count for ending, count in media.items() if "crashed" in ending or "not done" in ending)
    summary = {
        "media": sum(media.values()),
        "tables": sum(tables.values()),
        "workers lost": lost,
        "seconds": round(time.perf_counter() - start, 1),
        "peak GiB": {"this process": round(own, 2), "a worker that has ended": round(children, 2)},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    app.run(main)
