"""Host memory while an ensemble scores the candidates of MER2024 from the feature store.

    python -m benchmarks.streaming [--clips=115595] [--folder=DIR]

No peer: memory is flat if the second half of the candidates adds nothing to the first half's peak. Writes a store of
the paper's widths (6.7 GB at the full size; removed afterwards), fits the standardiser, scores all candidates with five
networks, and samples the memory of the process.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import nnx

from benchmarks.memory import Memory, halves
from benchmarks.timing import seconds_of, show
from benchmarks.work import CANDIDATES, CLASSES, DIMS, FOLDS
from mer_jax.features.standardise import Standardiser
from mer_jax.features.store import FeatureStore, Row
from mer_jax.fusion.ensemble import Members, Scorer
from mer_jax.models.fusion import AttentionFusion

CLIPS = flags.DEFINE_integer("clips", CANDIDATES, "Candidates.")
FOLDER = flags.DEFINE_string("folder", None, "Where the store is written; default the system's temporary folder.")
SHARD = 512  # clips


def write_store(folder: Path, width: int, clips: int) -> FeatureStore:
    """Random features, some of them again in every shard."""
    block = np.random.default_rng(0).standard_normal((SHARD, width), np.float32)
    store = FeatureStore(folder)
    for start in range(0, clips, SHARD):
        store.append([Row(str(i), block[i - start]) for i in range(start, min(start + SHARD, clips))])
    return store


def main(_: list[str]) -> None:
    """The benchmark."""
    clips = CLIPS.value
    with tempfile.TemporaryDirectory(dir=FOLDER.value) as folder:
        keys = [str(i) for i in range(clips)]
        stores = {name: write_store(Path(folder) / name, width, clips) for name, width in DIMS.items()}
        features, present = {}, {}
        for name, store in stores.items():
            features[name], present[name] = store.rows(keys)
        initialise = jax.vmap(
            lambda key: nnx.state(AttentionFusion(DIMS, num_classes=CLASSES, rngs=nnx.Rngs(key)), nnx.Param)
        )
        params = initialise(jax.random.split(jax.random.key(0), FOLDS))
        members = Members(params, jnp.arange(FOLDS), dict.fromkeys(DIMS, jnp.ones(FOLDS, bool)))
        scorer = Scorer(DIMS, CLASSES)
        rows = []
        for name, call in (
            ("Standardiser.fit", lambda: Standardiser.fit(features, present)),
            ("Scorer", lambda: scorer(members, Standardiser.identity(DIMS)(features), present)),
        ):
            with Memory() as memory:
                seconds = seconds_of(call)
            files = round(memory.files.max())
            rows.append(
                {"": name, **halves(memory.resident), "of it mapped files": files, "seconds": round(seconds, 1)}
            )
    show(rows, benchmark="streaming", clips=clips, features_mib=clips * sum(DIMS.values()) * 4 >> 20)


if __name__ == "__main__":
    app.run(main)
