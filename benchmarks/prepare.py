"""Preparing and reading a data set of many tiny clips: bounded memory, kills at any moment, scaling with workers.

    python -m benchmarks.prepare [--clips=20000] [--kills=3] [--shard_clips=256] [--seed=0]
    python -m benchmarks.prepare --scaling --clips=400 [--media=FOLDER] [--repeats=2]

Peer: a build that is not killed. Equal work: the same clips; what came out of either is compared record by record. A
few distinct media files (drawn faces, a bare wall, sound alone, a damaged one; or those of FOLDER) stand under many
names, hard-linked. They are prepared once from start to end and once with SIGKILL at random moments. `--scaling`
prepares them with 1, 2, ... workers in turn instead.
"""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from absl import app, flags

from benchmarks.memory import Memory, halves
from benchmarks.starting import start
from benchmarks.timing import show
from mer_jax.data.clip_files import MEDIA_SUFFIXES
from mer_jax.data.clips import SPLITS
from mer_jax.data.prepared import read_prepared, source
from tests.data.media_files import tone, write_video
from tests.data.test_detect import draw_face

CLIPS = flags.DEFINE_integer("clips", 20_000, "Rows of the data set.")
SHARD_CLIPS = flags.DEFINE_integer("shard_clips", 256, "Clips in a file of records; a kill loses at most these.")
KILLS = flags.DEFINE_integer("kills", 3, "Times that the second build is killed.")
SEED = flags.DEFINE_integer("seed", 0, "Of the moments of the kills.")
SCALING = flags.DEFINE_bool("scaling", False, "Compare numbers of workers instead.")
REPEATS = flags.DEFINE_integer("repeats", 2, "Measured builds with each number of workers.")
MEDIA = flags.DEFINE_string("media", None, "Folder of media files to take instead of the tiny ones.")


def write_sources(folder: Path) -> list[Path]:
    """The distinct media files."""
    folder.mkdir()
    for number in range(4):
        frames = np.stack([draw_face(90 + 20 * number + 4 * step, 90) for step in range(3)])
        write_video(folder / f"face{number}.mp4", frames, tone(0.4, 220 * (number + 1)), lossy=True)
    write_video(folder / "wall.mp4", np.full((3, 180, 320, 3), 120, np.uint8), tone(0.4), lossy=True)
    write_video(folder / "mute.mp4", np.stack([draw_face(160, 90)] * 2), lossy=True)
    write_video(folder / "sound.m4a", None, tone(0.6), lossy=True)
    whole = (folder / "face0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return sorted(folder.iterdir())


def write_dataset(root: Path, sources: list[Path], rows: int) -> None:
    """A folder data set of so many rows."""
    (root / "media").mkdir(parents=True)
    lines = ["name,label,split,group,text"]
    for row in range(rows):
        path = sources[row % len(sources)]
        os.link(path, root / "media" / f"clip{row:06d}{path.suffix}")
        split = SPLITS[min(row % 10, 2)]
        lines.append(f"clip{row:06d},{'xyz'[row % 3] if split == 'train' else ''},{split},g{row % 50},text {row}")
    (root / "clips.csv").write_text("\n".join(lines), "utf-8")


def prepare(root: Path, output: Path, log: Path, *options: str, kill_after: float = np.inf) -> dict[str, float]:
    """One start of the command."""
    command = ["mer_jax.prepare", f"--config=configs/semi.py:folder,encoders=bundled,root={root}", f"--output={output}"]
    return start([*command, f"--config.prepare.shard_clips={SHARD_CLIPS.value}", *options], log, kill_after)


def compare(folders: list[Path]) -> tuple[int, int, dict[str, int]]:
    """Records of two builds, how many of them differ, and how often each modality is absent."""
    records = differing = 0
    absent: dict[str, int] = {}
    for split, count in read_prepared(folders[0]).counts().items():
        ours, theirs = (source(folder, split) for folder in folders)
        if not len(ours) == len(theirs) == count:
            raise RuntimeError(f"{split}: {len(ours)} and {len(theirs)} records of {count} clips")
        for position in range(count):
            a, b = ours[position], theirs[position]
            differing += any(not np.array_equal(a[key], b[key]) for key in a)
            records += 1
            for modality in json.loads(a["absent"]):
                absent[modality] = absent.get(modality, 0) + 1
    return records, differing, absent


def kill_and_compare(root: Path, scratch: Path) -> None:
    """Prints a table and a line of JSON."""
    rng, log = np.random.default_rng(SEED.value), scratch / "log"
    whole = prepare(root, scratch / "whole", log)
    rows = [{"what": "prepare, from start to end", **whole}]
    for kill in range(KILLS.value):
        moment = float(rng.uniform(0.05, 0.95) * whole["seconds"] / KILLS.value)
        killed = prepare(root, scratch / "killed", log, kill_after=moment)
        parts = len(list((scratch / "killed" / ".parts").rglob("*.array_record")))
        rows.append({"what": f"kill {kill + 1}, {parts} finished shards there", **killed})
    rows.append({"what": "prepare, the rest", **prepare(root, scratch / "killed", log)})
    with Memory() as memory:
        began = time.perf_counter()
        versions = [next((scratch / name / "mer").glob("*/1.0.0")) for name in ("whole", "killed")]
        records, differing, absent = compare(versions)
        seconds = time.perf_counter() - began
    rows.append({"what": "reading both builds", "seconds": round(seconds, 1), **halves(memory.resident)})
    left = sorted(path.name for path in (scratch / "killed" / "mer").rglob("*incomplete*"))
    show(rows, clips=CLIPS.value, records=records, differing=differing, absent=absent, left_over=left)


def scale(root: Path, scratch: Path) -> None:
    """Prints a table and a line of JSON."""
    counts = range(1, len(os.sched_getaffinity(0)) + 1)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for repeat in range(REPEATS.value):
        for count in counts:
            output = scratch / f"{count}-{repeat}"
            build = prepare(root, output, scratch / "log", f"--config.extraction.workers={count}")
            seconds[count].append(build["seconds"])
    rows = [
        {
            "workers": count,
            "clips/s": round(CLIPS.value / median(spent), 2),
            "lowest": round(CLIPS.value / max(spent), 2),
            "highest": round(CLIPS.value / min(spent), 2),
        }
        for count, spent in seconds.items()
    ]
    show(rows, clips=CLIPS.value, cores=len(counts))


def main(_: list[str]) -> None:
    """The benchmark."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if MEDIA.value:
            (scratch / "sources").mkdir()
            originals = [path for path in sorted(Path(MEDIA.value).iterdir()) if path.suffix in MEDIA_SUFFIXES]
            sources = [Path(shutil.copy(path, scratch / "sources")) for path in originals]
        else:
            sources = write_sources(scratch / "sources")
        write_dataset(scratch / "data", sources, CLIPS.value)
        (scale if SCALING.value else kill_and_compare)(scratch / "data", scratch)


if __name__ == "__main__":
    app.run(main)
