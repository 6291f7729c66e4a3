"""An extraction that is killed at random moments.

    python -m benchmarks.interrupted [--clips=2000] [--kills=2] [--shard_clips=128] [--seed=0]

Peer: an extraction that is not killed. Equal work: the same clips of the bundled sample, sound, faces and text, with
the bundled encoders; the two stores must be equal bit for bit.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.starting import shards, start
from benchmarks.timing import show

CLIPS = flags.DEFINE_integer("clips", 2000, "Clips of the sample, all splits together.")
KILLS = flags.DEFINE_integer("kills", 2, "Times that the second extraction is killed.")
SHARD_CLIPS = flags.DEFINE_integer("shard_clips", 128, "Clips in a shard; a kill loses at most these.")
SEED = flags.DEFINE_integer("seed", 0, "Of the moments of the kills.")


def extract(workdir: Path, log: Path, kill_after: float = np.inf) -> dict[str, float]:
    """One start of the command."""
    third = CLIPS.value // 3
    command = ["mer_jax.extract", "--config=configs/semi.py", f"--workdir={workdir}"]
    command += [f"--config.data.{split}={third}" for split in ("labelled", "unlabelled")]
    command += [f"--config.data.test={CLIPS.value - 2 * third}", f"--config.extraction.shard_clips={SHARD_CLIPS.value}"]
    return start(command, log, kill_after)


def main(_: list[str]) -> None:
    """The benchmark."""
    rng = np.random.default_rng(SEED.value)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        log, whole, killed = (scratch / part for part in ("log", "whole", "killed"))
        extract(scratch / "unmeasured", log)  # writes the sample
        uninterrupted = extract(whole, log)
        rows: list[dict[str, Any]] = [{"what": "from start to end", **uninterrupted}]
        for kill in range(KILLS.value):
            moment = float(rng.uniform(0.3, 0.6) * uninterrupted["seconds"])
            spent = extract(killed, log, moment)
            rows.append({"what": f"kill {kill + 1}, {len(shards(killed))} shards there", **spent})
        rows.append({"what": "the rest", **extract(killed, log)})
        expected, actual = shards(whole), shards(killed)
        differing = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
        size = sum(len(embeddings) for embeddings, _ in expected.values())
        show(rows, clips=CLIPS.value, shards=len(expected), bytes=size, differing=differing)


if __name__ == "__main__":
    app.run(main)
