"""The rows of a sweep: settings of the fusion head that train side by side, with all their seeds and folds."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mer_jax.fusion.cross_validation import CrossValidation, Networks, TrainedSetting
from mer_jax.fusion.data import FusionData
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.metrics import subsets_of
from mer_jax.runtime.files import finite
from mer_jax.runtime.hosts import in_step
from mer_jax.runtime.kept import digest_of, keep, usable
from mer_jax.runtime.progress import progress
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.self_training_settings import SelfTrainingSettings
from mer_jax.settings import Settings
from mer_jax.sweep_settings import SweepSettings


@dataclass(frozen=True)
class Row:
    """One line of a sweep's table."""

    name: str
    modalities: tuple[str, ...]
    changes: Mapping[str, Any]  # fields of `config.fusion`, and `self_training.` ones of that section
    paper: tuple[str, ...] = ()  # scores to compare with: train & val, test
    streams: tuple[str, ...] = ()  # of the modalities; () for all


def train_rows(
    settings: Settings,
    plan: SweepSettings,
    rows: Sequence[Row],
    data_of: Callable[[str], FusionData],
    num_classes: int,
    folder: Path,
) -> list[dict[str, Any]]:
    """Trains every row with every seed: WAF in [0, 1], over the seeds."""
    programs: dict[Any, list[Row]] = defaultdict(list)
    fusion_of = {}
    for row in rows:
        fusion_of[row.name], self_training = changed(settings, row.changes)
        alike = replace(fusion_of[row.name], **settings.fusion.hyperparameters._asdict())
        programs[alike, self_training].append(row)
    entries: dict[str, dict[str, Any]] = {}
    for (shared, asked), alike_rows in programs.items():
        data = data_of(shared.standardise)
        self_trains = plan.self_training and len(data.unlabelled_truth)
        self_training = asked if self_trains else replace(asked, rounds=0)
        everything = [
            replace(
                Setting.of(f"{row.name}, seed {seed}", fusion_of[row.name], row.modalities, seed), streams=row.streams
            )
            for row in alike_rows
            for seed in range(plan.seeds)
        ]
        networks = networks_of(tuple(data.dims.items()), num_classes, shared, tuple(data.modality_of.items()))
        fusion = CrossValidation(data, networks, settings.seed, everything, self_training)
        # What is done counts only for the same data and settings.
        digest = hashlib.blake2b(repr((everything, shared, self_training)).encode(), digest_size=6).hexdigest()
        rounds = folder / f"rounds-{digest}"
        path = rounds / "rows.json"
        papers = {row.name: row.paper for row in alike_rows}
        asked_for = papers, plan.subsets, *shared.later, *[plan.top] * plan.top
        made = digest_of(data.digest, settings.seed, everything, shared, self_training, *asked_for)
        saved = in_step("rows", partial(usable, path, made, parse=partial(read_entries, names=list(papers))))
        if saved is not None:
            entries |= saved
            continue
        title = f"{len(everything)} x {data.num_folds} trainings of {', '.join(row.name for row in alike_rows)}"
        with progress(title if len(title) < 80 else f"{title[:76]} ...", self_training.rounds + 1, "round") as bar:
            _, final = fusion.self_train(rounds, bar.update)
            # What a choice of streams goes by in which a fold has no say.
            without = [fusion.waf_without(everything, fold) for fold in range(data.num_folds)] if plan.top else []
        for i, row in enumerate(alike_rows):
            trained = [final[f"{row.name}, seed {seed}"] for seed in range(plan.seeds)]
            entries[row.name] = {
                "name": row.name,
                **mean_and_spread("cv", [float(each.cv_waf.mean()) for each in trained]),
                **mean_and_spread("challenge", [float(each.challenge_waf.mean()) for each in trained]),
                **mean_and_spread("test", [each.test_waf for each in trained]),
                "paper": list(row.paper),
                "divergence": next((each.diverged for each in trained if each.diverged), ""),
            }
            if plan.top:
                entries[row.name]["folds"] = finite([each.cv_waf.tolist() for each in trained])  # [S, F]
                own = slice(i * plan.seeds, (i + 1) * plan.seeds)
                entries[row.name]["without"] = finite([wafs[own].tolist() for wafs in without])  # [F, S, F]
            if plan.subsets:
                entries[row.name]["subsets"] = subsets(fusion, trained, row.modalities)
        keep(path, {"rows": [entries[row.name] for row in alike_rows]}, made)
    return [entries[row.name] for row in rows]


@cache
def networks_of(
    dims: tuple[tuple[str, int], ...],
    num_classes: int,
    shared: FusionSettings,
    modality_of: tuple[tuple[str, str], ...],
) -> Networks:
    """Compiled once for all rows of one program."""
    return Networks(dict(dims), num_classes, shared, dict(modality_of))


def read_entries(saved: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of one program by their names, as they were kept when it was done."""
    rows = {row["name"]: row for row in saved["rows"]}
    scores = [f"{kind}_{score}" for kind in ("cv", "challenge", "test") for score in ("waf", "std")]
    _ = [float(rows[name][score] or 0) for name in names for score in scores]
    return {name: rows[name] for name in names}


def changed(settings: Settings, changes: Mapping[str, Any]) -> tuple[FusionSettings, SelfTrainingSettings]:
    """A run's settings with a row's fields in place of its own.

    Raises:
        UsageError: there is no such field, or its value is out of range.
    """
    of_section = by_section(changes)
    return (
        read_settings(FusionSettings, as_dict(settings.fusion) | of_section["fusion"]),
        read_settings(SelfTrainingSettings, as_dict(settings.self_training) | of_section["self_training"]),
    )


def by_section(changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes of a row, `self_training.` ones apart from those of `config.fusion`."""
    sections: dict[str, dict[str, Any]] = {"fusion": {}, "self_training": {}}
    for key, value in changes.items():
        own = key.startswith("self_training.")
        sections["self_training" if own else "fusion"][key.removeprefix("self_training.")] = value
    return sections


def mean_and_spread(name: str, values: list[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; None where there are no scores."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return {
        f"{name}_waf": float(np.mean(known)) if known else None,
        f"{name}_std": float(np.std(known)) if known else None,
    }


def subsets(
    fusion: CrossValidation, trained: Sequence[TrainedSetting], modalities: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """WAF over seeds when only some of the modalities are present, for every subset."""
    scores = {}
    for present in subsets_of(modalities):
        wafs = [fusion.waf_given(each, present) for each in trained]
        cv, test = ([each[f"{split}_waf"] for each in wafs] for split in ("cv", "test"))
        scores["+".join(present)] = mean_and_spread("cv", cv) | mean_and_spread("test", test)
    return scores
