"""Candidates of whom only some modalities count, as in MER2026's MER-Cross: what choosing by these is worth.

    python -m mer_jax.train --config=configs/semi.py:sample,candidate_modalities=image+video --workdir=runs/cross
    python -m benchmarks.cross --workdir=runs/cross [--seeds=3]

A grid of settings is trained on all modalities of the labelled clips, and one is chosen, best epochs included, by the
held-out clips: once by all that they have, once by what the candidates have. Prints a table, and a JSON line: the test
score of each choice, and what the score that chose it was.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

from absl import app, flags

from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.trials import Setting
from mer_jax.report.formats import spread
from mer_jax.report.sweep_tables import grid
from mer_jax.runtime.run import load_settings
from mer_jax.settings import Settings
from mer_jax.sweep import WORKDIR, run_data
from mer_jax.sweep_rows import mean_and_spread

SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds of the networks; each chooses for itself.", lower_bound=1)

GRID = {"modality_dropout": (0.0, 0.15, 0.3, 0.5), "learning_rate": (3e-4, 1e-3, 3e-3), "dropout": (0.1, 0.5)}


def main(_: list[str]) -> None:
    """Trains the grid twice, and chooses."""
    workdir = Path(WORKDIR.value or "")
    settings = load_settings(Settings, workdir)
    changes = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    rows, entries = [], []
    for shown in ("all", ""):
        data_of, classes = run_data(replace(settings, cv=replace(settings.cv, shown=shown)), workdir)
        data = data_of(settings.fusion.standardise)
        fusion = CrossValidation(data, Networks(data.dims, classes, settings.fusion), settings.seed)
        candidates = [name for name in data.modalities if any(data.test.present[name])]
        chosen = []
        for seed in range(SEEDS.value):
            table = [Setting.of(str(each), settings.fusion, data.modalities, seed, **each) for each in changes]
            trained = list(fusion.train(table).values())
            chosen.append(max(trained, key=lambda each: each.cv_waf.mean()))
        scores = {
            "cv": mean_and_spread("by", [float(each.cv_waf.mean()) for each in chosen]),
            "candidates": mean_and_spread("by", [fusion.waf_given(each, candidates)["cv_waf"] for each in chosen]),
            "test": mean_and_spread("by", [each.test_waf for each in chosen]),
        }
        name = "+".join(data.shown)
        entries.append({"chosen_by": name, "settings": [each.setting.name for each in chosen], **scores})
        rows.append([f"cross-validated by {name}", *(spread(*each.values()) for each in scores.values())])
    print("\n".join(grid(["chosen by the score", "that score", "by what candidates have", "test"], rows)))
    print(json.dumps(entries))


if __name__ == "__main__":
    app.run(main)
