"""Many settings of the fusion head on one run's features: searches, and the paper's tables.

    python -m mer_jax.sweep --config=configs/sweep.py --workdir=RUN

RUN is the workdir of a run of `mer_jax.train`, whose data, folds and features are used as they are. All settings,
seeds and folds of one `hidden` train side by side in one program.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from mer_jax.data.clips import Dataset
from mer_jax.data.corruptions import corrupted_copies
from mer_jax.fuse import Data, Fusion, fusion_data
from mer_jax.fusion.trials import Hyperparameters, Setting
from mer_jax.report.formats import spread
from mer_jax.runtime import cli
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import dump_json, write_whole
from mer_jax.runtime.progress import progress
from mer_jax.runtime.run import load_config
from mer_jax.self_training import Options
from mer_jax.stages import (
    Features,
    chosen_modalities,
    encode,
    find_faces,
    labelled_folds,
    modality_features,
    rank_transcripts,
    run_dataset,
)
from mer_jax.tune import prompted_encoder

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see configs/sweep.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished run.")


def main() -> None:
    """The command."""
    if CONFIG.value is None or not WORKDIR.value:
        raise UsageError("give both: --config=configs/sweep.py --workdir=RUN")
    workdir, plan = Path(WORKDIR.value), CONFIG.value
    config = load_config(workdir)
    dataset, features, data = run_data(config, workdir)
    folder = workdir / "sweeps" / plan.name
    rows = named_rows(plan, tuple(features), config.seed)
    entries = sweep(config, plan, rows, data, len(dataset.labels), folder)
    if "search" in plan:
        entries.sort(key=lambda entry: -entry["cv_waf"])
        with write_whole(folder / "best.py") as file:
            file.write(as_config(workdir, rows[entries[0]["name"]]))
    dump_json(folder / "results.json", {"plan": plan.to_dict(), "rows": entries})
    table = markdown(entries)
    with write_whole(folder / "results.md") as file:
        file.write(table)
    print(table)
    print(f"in {folder}", file=sys.stderr)


def run_data(config: Any, workdir: Path) -> tuple[Dataset, dict[str, Features], Data]:
    """A finished run's data set and features, from its stores."""
    dataset = run_dataset(config, workdir)
    labelled, truth, fold_of = labelled_folds(dataset, config, workdir)
    wanted = chosen_modalities(config)
    clips = list(dataset.clips)
    if "image" in wanted and not config.data.get("image_feature"):
        clips = find_faces(clips, workdir / "faces", config)
    copies, copy_of = corrupted_copies([clips[i] for i in labelled], config.corruptions.training, config.seed)
    rankings = rank_transcripts(clips, dataset.labels, config.ranking).ranked
    features = {
        modality: encode(config, workdir, [*clips, *copies], prompted_encoder(config, workdir, dataset.labels))
        if modality == "video" and not config.data.get("video_feature")
        else modality_features(config, workdir, [*clips, *copies], modality, rankings)
        for modality in wanted
    }
    data, _ = fusion_data(dataset, features, truth, fold_of, copy_of, config.fusion.standardise)
    return dataset, features, data


def named_rows(plan: Any, modalities: tuple[str, ...], seed: int) -> dict[str, dict[str, Any]]:
    """What each row changes: `modalities` ("+"-joined), fields of `config.fusion`; and `paper`, to compare with."""
    if "search" not in plan:
        kept = {row["name"]: dict(row) for row in plan.rows if set(row["modalities"].split("+")) <= set(modalities)}
        if not kept:
            raise UsageError(
                f"{plan.name}: every row needs a modality that the run lacks; it has {'+'.join(modalities)}"
            )
        return kept
    grid = [dict(zip(plan.search, values, strict=True)) for values in product(*plan.search.values())]
    count = min(plan.settings or len(grid), len(grid))
    chosen = np.random.default_rng(seed).permutation(len(grid))[:count] if count < len(grid) else range(count)
    return {", ".join(f"{key} {value:g}" for key, value in grid[i].items()): grid[i] for i in chosen}


def sweep(
    config: Any, plan: Any, rows: Mapping[str, Mapping[str, Any]], data: Data, num_classes: int, folder: Path
) -> list[dict[str, Any]]:
    """Trains every row with every seed: WAF in [0, 1], over the seeds. Rows of one `hidden` share a program."""
    modalities = tuple(data.labelled.features)
    options = Options(**config.self_training)
    if not (plan.self_training and len(data.unlabelled_truth)):
        options = replace(options, rounds=0)
    fusions = {name: fusion_config(config, row) for name, row in rows.items()}
    entries = []
    for hidden in sorted({fusion.hidden for fusion in fusions.values()}):
        mine = {name: fusion for name, fusion in fusions.items() if fusion.hidden == hidden}
        settings = {
            f"{name}, seed {seed}": setting(fusion, rows[name].get("modalities", "+".join(modalities)), seed)
            for name, fusion in mine.items()
            for seed in range(plan.seeds)
        }
        trained = Fusion(data, num_classes, next(iter(mine.values())), options, config.seed, len(settings))
        with progress(
            f"{len(settings)} x {trained.num_folds} trainings, hidden {hidden}", options.rounds + 1, "round"
        ) as bar:
            # Rounds go on where they ended only for the same settings.
            digest = hashlib.blake2b(repr(settings).encode(), digest_size=6).hexdigest()
            _, result = trained.self_train(settings, folder / f"rounds-{hidden}-{digest}", advance=bar.update)
        for number, name in enumerate(mine):
            own = range(number * plan.seeds, (number + 1) * plan.seeds)
            entry: dict[str, Any] = {
                "name": name,
                **summary("cv", [float(result.cv_waf[i].mean()) for i in own]),
                **summary("test", [result.test_waf[i] for i in own]),
                "paper": list(rows[name].get("paper", ())),
            }
            if plan.subsets:
                entry["subsets"] = subsets(trained, result, list(own), rows[name]["modalities"].split("+"))
            entries.append(entry)
    return [entry for name in rows for entry in entries if entry["name"] == name]


def fusion_config(config: Any, row: Mapping[str, Any]) -> ConfigDict:
    """`config.fusion` with the row's fields in place of the run's."""
    changed = {key: value for key, value in row.items() if key not in ("name", "modalities", "paper")}
    unknown = changed.keys() - config.fusion.keys()
    if unknown:
        raise UsageError(f"unknown field {min(unknown)!r}; config.fusion has {', '.join(config.fusion)}")
    fixed = [key for key in ("batch_size", "epochs", "keep_one", "standardise") if key in changed]
    if fixed:
        raise UsageError(f"{fixed[0]} cannot differ between the rows of a sweep: set it in the run")
    return ConfigDict(config.fusion.to_dict() | changed)


def setting(fusion: Any, modalities: str, seed: int) -> Setting:
    """One training of `config.fusion`."""
    hyperparameters = Hyperparameters(**{name: fusion[name] for name in Hyperparameters._fields})
    return Setting(tuple(modalities.split("+")), hyperparameters, seed)


def summary(name: str, values: list[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; None where there are no scores."""
    known = [value for value in values if value is not None]
    return {
        f"{name}_waf": float(np.mean(known)) if known else None,
        f"{name}_std": float(np.std(known)) if known else None,
    }


def subsets(
    trained: Fusion, result: Any, settings: list[int], modalities: list[str]
) -> dict[str, dict[str, float | None]]:
    """WAF over seeds when only some of the modalities are present, for every subset."""
    found = {}
    for size in range(1, len(modalities) + 1):
        for present in combinations(modalities, size):
            scores = [trained.waf_given(result, present, i) for i in settings]
            found["+".join(present)] = summary("cv", [score["cv_waf"] for score in scores]) | summary(
                "test", [score["test_waf"] for score in scores]
            )
    return found


def markdown(entries: list[dict[str, Any]]) -> str:
    """The rows as a table, and one of the subsets where they were scored."""
    lines = ["WAF in %, mean ± standard deviation over seeds; the paper's columns are the paper's, on MER2024.", ""]
    compared = any(entry["paper"] for entry in entries)
    heads = ["", "cross-validated", "test"] + ["paper, train & val", "paper, test"] * compared
    body = [
        [entry["name"], spread(entry["cv_waf"], entry["cv_std"]), spread(entry["test_waf"], entry["test_std"])]
        + (entry["paper"] or ["–", "–"]) * compared
        for entry in entries
    ]
    lines += grid(heads, body)
    scored = [entry for entry in entries if "subsets" in entry]
    if scored:
        widest = max((list(entry["subsets"]) for entry in scored), key=len)
        lines += ["", "Test WAF (cross-validated without test labels) with only these modalities present:", ""]
        lines += grid(
            ["", *(entry["name"] for entry in scored)],
            [[subset, *(subset_cell(entry["subsets"].get(subset)) for entry in scored)] for subset in widest],
        )
    return "\n".join(lines) + "\n"


def subset_cell(scores: Mapping[str, float | None] | None) -> str:
    if scores is None:
        return "–"
    split = "cv" if scores["test_waf"] is None else "test"
    return spread(scores[f"{split}_waf"], scores[f"{split}_std"])


def grid(heads: list[str], body: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *body)]


def as_config(workdir: Path, row: Mapping[str, Any]) -> str:
    """A config file: the run's settings with the row's fusion."""
    return (
        f'"""The best setting of a sweep over {workdir.name}."""\n\n'
        "from pathlib import Path\n\n"
        "from mer_jax.runtime.run import load_config\n\n\n"
        "def get_config():\n"
        "    config = load_config(Path(__file__).parents[2])\n"
        f"    config.fusion.update({dict(row)!r})\n"
        "    return config\n"
    )


if __name__ == "__main__":
    cli.run(main)
