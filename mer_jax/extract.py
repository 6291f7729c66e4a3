"""Clips -> features: every encoder that needs no training over a whole data set, into the run's feature stores.

    python -m mer_jax.extract --config=configs/semi.py:mer2024,root=DIR [--workdir=DIR] [--distributed]

An interrupted extraction continues at the next shard; `mer_jax.train` with the same config and workdir finds the
features there. The video features are not among them: their encoder is tuned on the labelled clips, by
`mer_jax.train`.
"""

import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from mer_jax import cli
from mer_jax.errors import UsageError
from mer_jax.run import Run
from mer_jax.stages import chosen_modalities, find_faces, modality_features, open_dataset, rank_transcripts

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see configs/semi.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<variant>.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several hosts (Cloud TPU, SLURM, GKE) that share the workdir and the work."
)


def main() -> None:
    """The command."""
    config = CONFIG.value
    if config is None:
        raise UsageError("--config is missing: try --config=configs/semi.py")
    if DISTRIBUTED.value:
        jax.distributed.initialize()
    extract_features(Run(Path(WORKDIR.value or f"runs/{config.variant}"), config))


def extract_features(run: Run) -> None:
    """The data set, its faces, and a stage per modality; prints what each modality has."""
    config, workdir = run.config, run.workdir
    wanted = [modality for modality in chosen_modalities(config) if modality != "video"]
    run.announce(["data", "faces", *wanted])
    with run.stage("data"):
        dataset = open_dataset(config)
        print(f"  {dataset.name}: {dataset.counts()}", file=sys.stderr)
    with run.stage("faces"):
        encoded = "image" in wanted and not config.data.get("image_feature")
        clips = find_faces(dataset.clips, workdir / "faces") if encoded else list(dataset.clips)
    rankings = rank_transcripts(clips, dataset.labels, config.ranking).ranked
    for modality in wanted:
        with run.stage(modality):
            found = modality_features(config, workdir, clips, modality, rankings)
        shape = " x ".join(map(str, found.embeddings.shape))
        print(f"{modality}: {shape}, {int(found.present.sum())} of {len(clips)} clips have it")


if __name__ == "__main__":
    cli.run(main)
