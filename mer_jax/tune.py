"""EmoVCLIP's prompts alone: the part of the main job that trains them.

    python -m mer_jax.tune --config=configs/semi.py [--workdir=DIR] [--config.tune.epochs=30 ...] [--distributed]

In the workdir of a run of `mer_jax.train` the two share what is done: either continues the other's work.
"""

from mer_jax.runtime import cli
from mer_jax.runtime.cluster import join_hosts
from mer_jax.settings import Settings

if __name__ == "__main__":
    cli.tensorboard_flag()
cli.parse_run_flags(__name__, Settings)

import sys
from pathlib import Path

from ml_collections import ConfigDict

from mer_jax.features.inputs import run_dataset
from mer_jax.fusion.folds import run_folds
from mer_jax.preflight import preflight
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.hosts import first_host_first
from mer_jax.runtime.profiling import asked
from mer_jax.runtime.run import Run
from mer_jax.runtime.scalars import scalars_in
from mer_jax.runtime.settings import read_settings
from mer_jax.tuning.prompts import PromptTuning


def main(config: ConfigDict, workdir: Path) -> None:
    """The command: the data set, then the prompts."""
    join_hosts()
    settings = read_settings(Settings, config)
    run = Run(workdir, settings)
    with first_host_first("preflight"):
        opened = preflight(settings, workdir, ("video",))
    run.announce(["data", "tune"])
    with run.stage("data"):
        dataset = run_dataset(settings, workdir, opened)
        folds = run_folds(dataset, settings.cv, settings.seed, workdir)
    with run.stage("tune"):
        curves = scalars_in(asked("tensorboard"))
        prompts = PromptTuning(settings.tune, settings, dataset.labels, folds.count, workdir, curves)
        scores = prompts.tune([dataset.clips[i] for i in folds.positions], folds.labels, folds.fold_of).scores
    if scores is None:
        raise DataError(f"{dataset.name}: no labelled clip has frames to tune on; `mer_jax.prepare --check` says why")
    for name in ("zero_shot", "linear_probe", "tuned", "tuned_best"):
        print(f"{name.replace('_', ' '):13} {100 * scores[name]:5.1f}  WAF of video alone, %, cross-validated")
    print(f"prompts: {workdir / 'checkpoints' / 'prompts'}", file=sys.stderr)


if __name__ == "__main__":
    cli.run_configured(main)
