"""Which streams to fuse: each alone, then the best 1..n of each modality and of all, and what such a choice is worth.

    python -m mer_jax.sweep --config=configs/top.py --workdir=runs/folder
    python -m mer_jax.train --config=runs/folder/sweeps/top/best.py --workdir=runs/best

The first needs the finished run in the workdir, whose features it shares, with two streams or more (of a run of
`configs/semi.py:folder,root=DIR,speech_feature=a+b+c`, say). Ranked by the honest score of each stream alone; it writes
the best set as the config that the second one trains, and says there that these clips have chosen it. What the choice
is worth on others stands in the table: a fold's clips are scored by the set that networks which have not seen them
choose by the other folds' clips, ranking included.

Time: 3 to 4 min for four streams of 624 clips on two busy cores: 10 sets of them x 3 seeds x 5 folds, once and without
each fold. Nothing is encoded, and there is no self-training; a set takes as long as the run's own folds, for what it
does not see is masked.
Expected: which streams are best depends on the data. On twelve actors of RAVDESS (benchmarks/ravdess_streams.py) the
honest choice among three streams of speech scores 62.1 ± 0.9, that of a single one 56.1 ± 1.0; with action units 82.0
± 2.0 and 73.0 ± 1.1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every stream, and the best of them together."""
    return ConfigDict({"name": "top", "seeds": 3, "self_training": False, "subsets": False, "top": True})
