"""The paper's Table 2: all modalities, with and without EmoVCLIP, under growing modality dropout; self-trained.

    python -m mer_jax.sweep --config=configs/table2.py --workdir=runs/sample

Needs the finished run in the workdir, whose features it shares. Also scores every subset of present modalities, which
shows what modality dropout buys.
"""

from ml_collections import ConfigDict

from mer_jax.report.paper import TABLE_2


def get_config() -> ConfigDict:
    """Rows of the table that a run of ours can answer."""
    rows = tuple(
        {
            "name": row.model.removeprefix("Paper").strip(", "),
            "modalities": "+".join(row.modalities),
            "modality_dropout": row.modality_dropout,
            "paper": (row.train_val, row.test),
        }
        for row in TABLE_2
        if row.modalities
    )
    return ConfigDict({"name": "table2", "seeds": 5, "self_training": True, "subsets": True, "rows": rows})
