"""The paper's Table 1: one modality alone, labelled clips only; text with its ranking.

    python -m mer_jax.sweep --config=configs/table1.py --workdir=runs/sample

Needs the finished run in the workdir, whose features it shares.
"""

from ml_collections import ConfigDict

from mer_jax.report.paper import TABLE_1


def get_config() -> ConfigDict:
    """Rows of the table that a run of ours can answer."""
    rows = tuple(
        {
            "name": row.model.removeprefix("Paper, "),
            "modalities": "+".join(row.modalities),
            "modality_dropout": 0.0,
            "paper": (row.train_val, row.test),
        }
        for section in TABLE_1.values()
        for row in section
        if row.modalities and row.ranking == ("text" in row.modalities)
    )
    return ConfigDict({"name": "table1", "seeds": 5, "self_training": False, "subsets": False, "rows": rows})
