"""What a run has kept, damaged file by file, and the run started again.

    python -m benchmarks.damage [--trials=200] [--seed=0]

Peer: the run that was not damaged. Files of a finished run and of one that was killed half-way are cut, emptied,
flipped by a bit, and replaced by another run's file of the same name. Right is: named and made again, with the same
results; or refused in one line; or, of a file that nothing reads any more, the same results. Wrong are other results,
and tracebacks.
"""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.kills import CONFIG, SEED, Ending, results, start
from benchmarks.timing import show

TRIALS = flags.DEFINE_integer("trials", 200, "Damaged files, over both runs and all ways.")

WAYS = ("cut", "emptied", "flipped", "replaced")
# What a run that is killed in its last rounds has not written yet.
LAST = ("inventory.json", "metrics.json", "report", "predictions", "self_training/round-03.json")
LAST_CHECKPOINTS = ("checkpoints/ensemble", "checkpoints/ensemble.json", "checkpoints/standardiser.safetensors")
IGNORED = {".lock"}


def damage(path: Path, way: str, other: Path, rng: np.random.Generator) -> None:
    """Damages a file. other: of another run."""
    content = path.read_bytes()
    match way:
        case "cut":
            path.write_bytes(content[: int(rng.integers(len(content)))] if content else b"")
        case "emptied":
            path.write_bytes(b"")
        case "flipped" if content:
            place = int(rng.integers(len(content)))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
        case "replaced" if other.is_file():
            shutil.copyfile(other, path)


def outcome(ending: Ending, output: str, name: str, same: bool) -> str:
    """A trial's outcome in words. output: all that the second start printed. same: whether its results are."""
    parts = Path(name).parts
    checkpoint = [str(Path(*parts[:depth])) for depth in (2, 3) if parts[0] == "checkpoints"]  # one is named as a whole
    named = any(f"/{path}" in output for path in (name, *checkpoint))
    if "Traceback" in output:
        return "traceback"
    if ending.code:
        return "refused in one line" if len(ending.errors) == 1 and named else "refused, and not named"
    if not same:
        return "used in silence" if not named else "named, and other results"
    return "named, and made again" if named else "same results, not read"


def main(_: list[str]) -> None:
    """The benchmark."""
    rng = np.random.default_rng(SEED.value)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole, other, folder, log = (Path(scratch, name) for name in ("whole", "other", "run", "log"))
        for workdir, seed in ((whole, 0), (other, 1)):
            ending = start(["mer_jax.train", *CONFIG, f"--config.seed={seed}", f"--workdir={workdir}"])
            assert ending.code == 0, ending.errors
        half = Path(scratch, "half")
        shutil.copytree(whole, half)
        for late in (*LAST, *LAST_CHECKPOINTS):
            shutil.rmtree(half / late) if (half / late).is_dir() else (half / late).unlink()
        expected = results(whole)
        runs = {"finished": whole, "half-way": half}
        files = {
            kind: [p.relative_to(run) for p in sorted(run.rglob("*")) if p.is_file() and p.name not in IGNORED]
            for kind, run in runs.items()
        }
        for trial in range(TRIALS.value):
            kind, way = list(runs)[trial % 2], WAYS[trial // 2 % len(WAYS)]
            name = files[kind][int(rng.integers(len(files[kind])))]
            shutil.copytree(runs[kind], folder)
            damage(folder / name, way, other_file(other, name), rng)
            ending = start(["mer_jax.train", *CONFIG, f"--workdir={folder}"], log=log)
            same = not ending.code and results(folder) == expected
            rows.append({"run": kind, "file": str(name), "damage": way})
            rows[-1]["outcome"] = outcome(ending, log.read_text("utf-8", "replace"), str(name), same)
            shutil.rmtree(folder)
    outcomes = Counter(row["outcome"] for row in rows)
    show(rows, trials=len(rows), outcomes=dict(outcomes))


def other_file(run: Path, name: Path) -> Path:
    """The file of another run in this one's place; names of folders tell what made them, and differ."""
    places = [run / name]
    if len(name.parts) > 1:  # features/speech-FINGERPRINT/...
        kind = name.parts[1].rpartition("-")[0] or name.parts[1]
        places += run.glob("/".join([name.parts[0], f"{kind}*", *name.parts[2:]]))
    return next((path for path in places if path.is_file()), run / "none")


if __name__ == "__main__":
    app.run(main)
