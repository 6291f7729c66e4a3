"""Fifty settings of the fusion head, ranked by cross-validated WAF.

    python -m mer_jax.sweep --config=configs/sweep.py --workdir=runs/sample
    python -m mer_jax.train --config=runs/sample/sweeps/sweep/best.py --workdir=runs/best

The first needs the finished run in the workdir, whose features it shares; it writes the best setting as the config that
the second one trains, and says there that these clips have chosen it. Any field of `config.fusion` can be searched;
what is no hyperparameter (learning rate, l2, dropouts, label smoothing) takes a program of its own.

Time: not measured. Nothing is encoded; 50 settings x 2 seeds x 5 folds are 500 trials, those of one `hidden` side by
side, without self-training.
Expected: not measured. The table says each setting's score, and which is best depends on the run's data.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """`settings` different draws from the grid of `search`; 0 takes the whole grid."""
    return ConfigDict(
        {
            "name": "sweep",
            "seeds": 2,
            "self_training": False,
            "subsets": False,
            "settings": 50,
            "search": {
                "learning_rate": (1e-4, 3e-4, 1e-3, 3e-3),
                "dropout": (0.1, 0.3, 0.5),
                "modality_dropout": (0.0, 0.15, 0.3, 0.5),
                "l2": (0.0, 1e-5, 1e-4),
                "label_smoothing": (0.0, 0.1),
                "hidden": (64, 128, 256),
            },
        }
    )
