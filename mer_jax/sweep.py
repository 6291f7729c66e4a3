"""Many settings of the fusion head on one run's features: searches, and the paper's tables.

    python -m mer_jax.sweep --config=configs/sweep.py --workdir=RUN [--distributed]

RUN is the workdir of a run of `mer_jax.train`, whose data, folds and features are used as they are. Rows that differ in
nothing but hyperparameters, or in which streams they see, train side by side in one program, with all their seeds and
folds.
"""

from absl import flags

from mer_jax.runtime import cli
from mer_jax.runtime.cluster import join_hosts
from mer_jax.sweep_settings import SweepSettings

CONFIG = cli.config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished run.")


def wrong() -> str:
    """What is wrong with the flags together; empty if nothing is."""
    return "" if CONFIG.value and WORKDIR.value else "give both: --config=configs/sweep.py --workdir=RUN"


cli.parse_flags(__name__, SweepSettings, wrong)

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.data.votes import read_votes
from mer_jax.features.inputs import Inputs, run_dataset
from mer_jax.features.outliers import without_outliers
from mer_jax.fusion.data import FusionData, fusion_data
from mer_jax.fusion.folds import run_folds
from mer_jax.fusion.stream_choice import Wafs, all_choices, sets_to_train
from mer_jax.report.formats import percent
from mer_jax.report.sweep_tables import markdown, top_markdown
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.files import dump_json, write_whole
from mer_jax.runtime.inventory import require_results
from mer_jax.runtime.lock import hold
from mer_jax.runtime.run import load_settings
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.settings import Settings
from mer_jax.sweep_rows import Row, by_section, mean_and_spread, train_rows
from mer_jax.tuning.prompts import PromptTuning


def main() -> None:
    """The command."""
    join_hosts()
    workdir, plan = Path(WORKDIR.value or ""), read_settings(SweepSettings, CONFIG.value)
    settings = load_settings(Settings, workdir)
    hold(workdir)
    require_results(workdir)
    data_of, num_classes = run_data(settings, workdir)
    folder = workdir / "sweeps" / plan.name
    said = [f"Flattered: {reason}.\n" for reason in settings.flattering]
    if limited_to := data_of(settings.fusion.standardise).limited_to:
        said.append(f"Cross-validated by {' and '.join(limited_to)} alone, as the candidates have them.\n")
    score_rows = top_streams if plan.top else listed_rows
    results, table, best = score_rows(workdir, settings, plan, data_of, num_classes, folder)
    if best:
        with write_whole(folder / "best.py") as file:
            file.write(best)
    dump_json(folder / "results.json", {"plan": as_dict(plan), **results})
    with write_whole(folder / "results.md") as file:
        file.write("".join(said) + table)
    print("".join(said) + table)
    print(f"in {folder}", file=sys.stderr)


def listed_rows(
    workdir: Path,
    settings: Settings,
    plan: SweepSettings,
    data_of: Callable[[str], FusionData],
    num_classes: int,
    folder: Path,
) -> tuple[dict[str, Any], str, str]:
    """A plan's rows: what becomes JSON, the table, and the config of a search's best one."""
    best = ""
    rows = plan_rows(plan, data_of(settings.fusion.standardise).modalities, settings.seed)
    entries = train_rows(settings, plan, rows, data_of, num_classes, folder)
    if plan.search:
        entries.sort(key=lambda entry: -(entry["cv_waf"] or 0))
        if entries[0]["cv_waf"] is None:
            raise DataError(f"{plan.name}: every setting has diverged: {entries[0]['divergence']}")
        (changes,) = (row.changes for row in rows if row.name == entries[0]["name"])
        best = as_config(workdir, changes, f"the best of {len(rows)} in the sweep {plan.name}")
    return {"rows": entries}, markdown(entries), best


def top_streams(
    workdir: Path,
    settings: Settings,
    plan: SweepSettings,
    data_of: Callable[[str], FusionData],
    num_classes: int,
    folder: Path,
) -> tuple[dict[str, Any], str, str]:
    """Every stream alone, then the best of them together: as `listed_rows`, the config is that of the best set.

    Raises:
        UsageError: there is one stream, or two folds, or the plan asks for what is not chosen by streams.
    """
    data = data_of(settings.fusion.standardise)
    modality_of = {
        stream: own for stream, own in data.modality_of.items() if own in data.shown
    }  # by these all is chosen
    if len(modality_of) < 2:
        raise UsageError(f"{plan.name}: the run has one stream, {next(iter(modality_of))}: there is nothing to choose")
    if (folds := data.num_folds) < 3:
        raise UsageError(
            f"{plan.name}: the run has {folds} folds; a choice in which one has no say needs three or more"
        )
    if plan.rows or plan.search or plan.self_training or plan.subsets:
        raise UsageError(f"{plan.name}: top=True goes with neither rows, search, self_training nor subsets")

    def row_of(streams: tuple[str, ...]) -> Row:
        modalities = tuple(dict.fromkeys(modality_of[stream] for stream in streams))
        return Row(
            "+".join(streams), modalities, {"modality_dropout": 0.0} if len(modalities) == 1 else {}, (), streams
        )

    entries: dict[tuple[str, ...], dict[str, Any]] = {}

    def train(sets: Sequence[tuple[str, ...]]) -> None:
        scored = train_rows(settings, plan, [row_of(streams) for streams in sets], data_of, num_classes, folder)
        entries.update(zip(sets, scored, strict=True))

    train([(stream,) for stream in modality_of])
    sets = sets_to_train({stream: wafs_of(entries[stream,]) for stream in modality_of}, modality_of)
    train([streams for streams in sets if len(streams) > 1])
    choices = all_choices({streams: wafs_of(entry) for streams, entry in entries.items()}, modality_of)
    chosen: list[dict[str, Any]] = [
        {
            "name": f"the best {name}",
            "chosen": "+".join(choice.streams),
            **mean_and_spread("cv", choice.waf.mean(axis=1).tolist()),
            "by_fold": ["+".join(streams) for streams in choice.by_fold],
        }
        for name, choice in choices.items()
    ]
    rows = [{**entry, "is": sets.get(streams) or "alone" * (len(streams) == 1)} for streams, entry in entries.items()]
    best, honest = choices["of all"].streams, chosen[-1]["cv_waf"]
    if entries[best]["cv_waf"] is None:
        raise DataError(f"{plan.name}: every training has diverged: {entries[best]['divergence']}")
    how = f"the best of {len(sets)} sets of streams in the sweep {plan.name}; chosen by others: {percent(honest)} %"
    left_out = "+".join(filter(None, [settings.left_out, *(each for each in settings.sources if each not in best)]))
    config = as_config(workdir, row_of(best).changes, how, left_out)
    return {"rows": rows, "choices": chosen}, top_markdown(rows, chosen), config


def wafs_of(entry: Mapping[str, Any]) -> Wafs:
    """Of a row of one set of streams."""
    return Wafs(np.array(entry["folds"], float), np.array(entry["without"], float))


def run_data(settings: Settings, workdir: Path) -> tuple[Callable[[str], FusionData], int]:
    """A finished run's data by how it is standardised, with features from its stores, and the number of classes."""
    dataset = run_dataset(settings, workdir)
    folds = run_folds(dataset, settings.cv, settings.seed, workdir)
    prompts = PromptTuning(settings.tune, settings, dataset.labels, folds.count, workdir)
    inputs = Inputs(dataset, settings, workdir, prompts.trained_encoder)
    features = {stream: without_outliers(inputs.features(stream), stream) for stream in settings.sources}
    copy_of, modality_of = inputs.copies[1], settings.modality_of
    votes = read_votes(settings.votes, dataset)  # for pseudo-labels: rows are scored without

    @cache
    def data_of(standardise: str) -> FusionData:
        return fusion_data(dataset, features, folds, copy_of, standardise, settings.cv, modality_of, votes)[0]

    return data_of, len(dataset.labels)


def plan_rows(plan: SweepSettings, modalities: tuple[str, ...], seed: int) -> list[Row]:
    """The rows of a plan that a run with these modalities can answer.

    Raises:
        UsageError: it can answer none.
    """
    if plan.search:
        grid = [dict(zip(plan.search, values, strict=True)) for values in product(*plan.search.values())]
        if 0 < plan.settings < len(grid):
            grid = [grid[i] for i in np.random.default_rng(seed).permutation(len(grid))[: plan.settings]]
        names = [", ".join(f"{key} {value}" for key, value in changes.items()) for changes in grid]
        return [Row(name, modalities, changes) for name, changes in zip(names, grid, strict=True)]
    rows = []
    for row in plan.rows:
        changes = {key: value for key, value in row.items() if key not in ("name", "modalities", "paper")}
        seen = tuple(row["modalities"].split("+")) if "modalities" in row else modalities
        rows.append(Row(row["name"], seen, changes, tuple(row.get("paper", ()))))
    answerable = [row for row in rows if set(row.modalities) <= set(modalities)]
    if not answerable:
        raise UsageError(f"{plan.name}: every row needs a modality that the run lacks; it has {'+'.join(modalities)}")
    return answerable


def as_config(workdir: Path, changes: Mapping[str, Any], chosen: str, left_out: str = "") -> str:
    """A config file: the run's settings with a row's changes, without some streams; `chosen` says how these were."""
    updates = [
        f"    config.{section}.update({values!r})\n" for section, values in by_section(changes).items() if values
    ]
    updates += [f"    config.left_out = {left_out!r}\n"] * bool(left_out)
    return (
        f'"""The best setting of a sweep over {workdir.name}."""\n\n'
        "from pathlib import Path\n\n"
        "from ml_collections import ConfigDict\n\n"
        "from mer_jax.runtime.run import load_settings\n"
        "from mer_jax.runtime.settings import as_dict\n"
        "from mer_jax.settings import Settings\n\n\n"
        "def get_config():\n"
        "    config = ConfigDict(as_dict(load_settings(Settings, Path(__file__).parents[2])))\n"
        f"{''.join(updates)}"
        f"    config.cv.settings_from = {chosen!r}\n"
        "    return config\n"
    )


if __name__ == "__main__":
    cli.run(main)
