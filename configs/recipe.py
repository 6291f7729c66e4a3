"""What each part of the recipe in configs/best.py is worth: the paper's training, and one part after the other.

    python -m mer_jax.sweep --config=configs/recipe.py --workdir=runs/sample

Needs the finished run in the workdir, whose features it shares. Standardising within groups is worth something only
where the data set has groups; the sample has none.

Time: 6 min on the sample and two cores. Expected there: cross-validated 80.1 ± 0.4 in the first row, 84.2 ± 0.2 in the
last; test 84.7 ± 0.3 and 83.9 ± 0.3 (docs/results.md).
"""

from ml_collections import ConfigDict

PARTS = (
    ("averaged weights, chosen by its own fold", {"network": "average", "self_training.chooser": "own_fold"}),
    ("and five rounds that weigh 0.3", {"self_training.rounds": 5, "self_training.weight": 0.3}),
    ("and three seeds a fold", {"seeds": 3}),
    ("and 60 epochs", {"epochs": 60}),
    ("and within groups", {"standardise": "group"}),
)


def get_config() -> ConfigDict:
    """Rows that add up to the recipe."""
    row: dict = {"network": "best", "standardise": "all", "seeds": 1, "epochs": 30}
    row |= {"self_training.chooser": "all_folds", "self_training.rounds": 10, "self_training.weight": 1.0}
    rows = [{"name": "as in the paper", **row}]
    for name, change in PARTS:
        row = row | change
        rows.append({"name": name, **row})
    return ConfigDict({"name": "recipe", "seeds": 5, "self_training": True, "subsets": False, "rows": tuple(rows)})
