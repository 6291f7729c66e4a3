"""The paper's Table 2: all modalities, with and without EmoVCLIP, under growing modality dropout; self-trained.

    python -m mer_jax.sweep --config=configs/table2.py --workdir=runs/sample

Needs the finished run in the workdir, whose features it shares. Also scores every subset of present modalities, which
shows what modality dropout buys.

Time: not measured. Nothing is encoded; rows x 5 seeds x 5 folds are the trials of one program, trained once for each of
the run's rounds of self-training and once more.
Expected on the sample: test WAF (cross-validated; as the challenge counts), mean ± standard deviation over the seeds.
The table's columns of the paper are the paper's, on MER2024.

    without EmoVCLIP, modality dropout 0    80.1 ± 1.5 (77.6 ± 0.3; 87.9 ± 0.4)
    with EmoVCLIP, 0                        81.3 ± 0.8 (78.4 ± 0.7; 87.3 ± 0.4)
    0.15                                    85.2 ± 1.2 (80.2 ± 1.0; 89.6 ± 0.7)
    0.3                                     84.7 ± 0.3 (80.1 ± 0.4; 88.7 ± 0.5)
    0.5                                     85.1 ± 0.9 (81.0 ± 0.6; 88.2 ± 0.1)
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
