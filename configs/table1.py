"""The paper's Table 1: one modality alone, labelled clips only; text with its ranking.

    python -m mer_jax.sweep --config=configs/table1.py --workdir=runs/sample

Needs the finished run in the workdir, whose features it shares.

Time: not measured. Nothing is encoded; rows x 5 seeds x 5 folds are the trials of one program, without self-training.
Expected on the sample: test WAF of speech 68.0, text 63.6, image 59.1, video 60.5, image and video 63.5;
cross-validated 65.1, 61.4, 56.9, 56.1, 59.9. The table's columns of the paper are the paper's, on MER2024.
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
