"""Labels that are coin flips: what self-training makes the cross-validated score of them, honest and as it is counted.

    python -m benchmarks.coin_flips [--sets=8] [--rounds=6]

No peer. The sets are those of tests/fusion/test_true_scores.py: 60 clips of four classes, labels drawn at random, three
near-copies of each clip among the unlabelled ones. Chance is 25 %; balanced folds push guesses below it: the fewer of a
class a fold trains on, the more of it it holds out.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.timing import show
from mer_jax.fusion.cross_validation import Networks
from tests.fusion import test_true_scores as flips

SETS = flags.DEFINE_integer("sets", 8, "Sets of clips, over which scores are averaged.")
ROUNDS = flags.DEFINE_integer("rounds", 6, "Of self-training.")


def main(_: list[str]) -> None:
    """The benchmark."""
    flips.SETS = SETS.value
    average = replace(flips.PAPER, network="average")
    dims = flips.coin_flips(0, grouped=False).dims
    networks = {settings: Networks(dims, flips.CLASSES, settings) for settings in (flips.PAPER, average)}
    blind: dict[str, Any] = {"settings": average, "chooser": "own_fold", "weight": 0.3}
    rows: dict[str, dict[str, Any]] = {
        "the paper's way, before self-training": {"rounds": 0},
        "the paper's way": {},
        "blind": blind,
        "blind, relabel": {**blind, "relabel": True},
        "blind, agreement": {**blind, "agreement": True},
        "blind, not cumulative": {**blind, "cumulative": False},
        "blind, in groups": {**blind, "grouped": True},
    }
    table = []
    for name, options in rows.items():
        with tempfile.TemporaryDirectory() as folder:
            honest, challenge = flips.scores(networks, Path(folder), **{"rounds": ROUNDS.value, **options})
        counted = round(100 * float(challenge), 1)
        table.append({"WAF, %": name, "honest": round(100 * float(honest), 1), "as the challenge counts": counted})
    show(table, benchmark="coin_flips", sets=SETS.value, rounds=ROUNDS.value)


if __name__ == "__main__":
    app.run(main)
