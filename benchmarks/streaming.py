"""Host memory while an ensemble scores the candidates of MER2024 from the feature store.

    python -m benchmarks.streaming [--clips=115595] [--folder=DIR]

Writes a store of the paper's widths (6.7 GB at the full size; removed afterwards), fits the standardiser, scores all
candidates with five networks, and samples the memory of the process. Memory is flat if the second half of the
candidates adds nothing to the first half's peak.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from benchmarks.fusion import CLASSES, FOLDS, PAPER
from benchmarks.memory import Memory
from benchmarks.timing import seconds_of, show
from mer_jax.features.standardise import Standardiser
from mer_jax.features.store import FeatureStore, Row
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.models.fusion import MODALITIES, AttentionFusion

SHARD = 512  # clips


def peaks(memory: Memory) -> dict[str, float]:
    """Largest resident memory in either half of the time; and of the mapped files alone. MiB."""
    first, second = np.array_split(memory.resident, 2)
    return {
        "peak, first half": round(first.max()),
        "peak, second half": round(second.max()),
        "of it mapped files": round(memory.files.max()),
    }


def write_store(folder: Path, width: int, clips: int) -> FeatureStore:
    block = np.random.default_rng(0).standard_normal((SHARD, width), np.float32)
    store = FeatureStore(folder)
    for start in range(0, clips, SHARD):
        store.append([Row(str(i), block[i - start]) for i in range(start, min(start + SHARD, clips))])
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=115_595)
    parser.add_argument("--folder", help="where the store is written; default the system's temporary folder")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        keys = [str(i) for i in range(flags.clips)]
        stores = {name: write_store(Path(folder) / name, width, flags.clips) for name, width in PAPER.items()}
        features, present = {}, {}
        for name, store in stores.items():
            features[name], present[name] = store.rows(keys)
        initialise = jax.vmap(
            lambda key: nnx.state(AttentionFusion(PAPER, num_classes=CLASSES, rngs=nnx.Rngs(key)), nnx.Param)
        )
        params = initialise(jax.random.split(jax.random.key(0), FOLDS))
        members = Members(params, np.arange(FOLDS), np.ones((FOLDS, len(MODALITIES)), bool))
        scorer = Scorer(PAPER, CLASSES)
        rows = []
        for name, work in (
            ("Standardiser.fit", lambda: Standardiser.fit(features, present)),
            ("Scorer", lambda: scorer(members, Standardiser.identity(PAPER)(features), present)),
        ):
            with Memory() as memory:
                seconds = seconds_of(work)
            rows.append({"": name, **peaks(memory), "seconds": round(seconds, 1)})
    show(rows, benchmark="streaming", clips=flags.clips, features_mib=flags.clips * sum(PAPER.values()) * 4 >> 20)


if __name__ == "__main__":
    main()
