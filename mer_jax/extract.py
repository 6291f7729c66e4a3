"""Clips -> features: every encoder that needs no training over a whole data set, into the run's feature stores.

    python -m mer_jax.extract --config=configs/semi.py:mer2024,root=DIR [--workdir=DIR] [--distributed]

An interrupted extraction continues at the next shard; `mer_jax.train` with the same config and workdir finds the
features there. The video features are not among them: their encoder is tuned on the labelled clips, by
`mer_jax.train`.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from mer_jax.data.corruptions import corrupted_copies
from mer_jax.runtime import cli
from mer_jax.runtime.hosts import first_host_first, join_hosts
from mer_jax.runtime.run import Run
from mer_jax.stages import chosen_modalities, find_faces, modality_features, rank_transcripts, run_dataset
from mer_jax.text.annotators import Rankings

DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several hosts (Cloud TPU, SLURM, GKE) that share the workdir and the work."
)


def main(config: ConfigDict, workdir: Path) -> None:
    """The command."""
    if DISTRIBUTED.value:
        join_hosts()
    extract_features(Run(workdir, config))


def extract_features(run: Run) -> None:
    """The data set, its faces, and a stage per modality; prints what each modality has."""
    config, workdir = run.config, run.workdir
    wanted = [modality for modality in chosen_modalities(config) if modality != "video"]
    run.announce(["data", "faces", *wanted])
    with run.stage("data"), first_host_first("data"):
        dataset = run_dataset(config, workdir)
        print(f"  {dataset.name}: {dataset.counts()}", file=sys.stderr)
    with run.stage("faces"):
        encoded = "image" in wanted and not config.data.get("image_feature")
        clips = find_faces(dataset.clips, workdir / "faces", config) if encoded else list(dataset.clips)
        labelled = [clips[i] for i in dataset.split("train")]
        copies, _ = corrupted_copies(labelled, config.corruptions.training, config.seed)
    rankings = Rankings.none()
    if "text" in wanted and not config.data.get("text_feature"):
        with first_host_first("rankings"):
            rankings = rank_transcripts(clips, dataset.labels, config.ranking)
    for modality in wanted:
        with run.stage(modality):
            found = modality_features(config, workdir, [*clips, *copies], modality, rankings.ranked)
        shape = " x ".join(map(str, found.embeddings.shape))
        print(f"{modality}: {shape}, {int(found.present[: len(clips)].sum())} of {len(clips)} clips have it")


if __name__ == "__main__":
    cli.run_configured(main)
