"""Clips -> features: every encoder that needs no training over a whole data set, into the run's feature stores.

    python -m mer_jax.extract --config=configs/semi.py:mer2024,root=DIR [--workdir=DIR] [--distributed]

An interrupted extraction continues at the next shard; `mer_jax.train` with the same config and workdir finds the
features there. The video features are not among them: their encoder is tuned on the labelled clips, by
`mer_jax.train`.
"""

from mer_jax.runtime import cli
from mer_jax.runtime.cluster import join_hosts
from mer_jax.settings import Settings

cli.parse_run_flags(__name__, Settings)

import sys
from pathlib import Path

from ml_collections import ConfigDict

from mer_jax.features.inputs import Inputs, run_dataset
from mer_jax.preflight import preflight
from mer_jax.runtime.hosts import first_host_first
from mer_jax.runtime.run import Run
from mer_jax.runtime.settings import read_settings
from mer_jax.runtime.terminal import harmless


def main(config: ConfigDict, workdir: Path) -> None:
    """The data set, its faces, and a stage per stream; prints how many clips have each."""
    join_hosts()
    settings = read_settings(Settings, config)
    run = Run(workdir, settings)
    streams = [name for name, stream in settings.sources.items() if stream.feature or stream.modality != "video"]
    with first_host_first("preflight"):
        opened = preflight(settings, workdir, [name for name in settings.encoded if name != "video"], learns=False)
    run.announce(["data", *["transcripts"] * settings.transcribes, "faces", *streams])
    with run.stage("data"):
        dataset = run_dataset(settings, workdir, opened)
        print(f"  {dataset.name}: {dataset.counts()}", file=sys.stderr)
    inputs = Inputs(dataset, settings, workdir)
    if settings.transcribes:
        with run.stage("transcripts"):
            print(inputs.transcripts.summary())
    with run.stage("faces"):
        clips = inputs.clips
    for stream in streams:
        with run.stage(stream):
            features = inputs.features(stream)
        present, copies = int(features.present[: len(clips)].sum()), len(features.present) - len(clips)
        also = f"; {copies:,} corrupted copies" if copies else ""
        width = features.embeddings.shape[-1]
        print(f"{stream}: {present:,} of {len(clips):,} clips have it, {width:,} numbers each{also}")
        for line in features.absences():
            print(f"  {harmless(line)}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_configured(main)
