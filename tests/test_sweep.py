"""Settings side by side: which rows there are, what they score, and the config that the best one becomes."""

import numpy as np
import pytest
from mer_jax.fuse import Data, Embeddings
from ml_collections import ConfigDict

from configs import sweep as sweep_config
from configs import table1, table2
from configs.semi import get_config
from mer_jax.fusion.folds import make_folds
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import dump_json
from mer_jax.sweep import as_config, markdown, named_rows, sweep

ALL = ("speech", "image", "text", "video")


def clips(count, seed):
    """Speech tells two classes apart, text says nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = {"speech": (labels[:, None] + 0.3 * rng.normal(size=(count, 5))).astype(np.float32)}
    features["text"] = rng.normal(size=(count, 4)).astype(np.float32)
    return Embeddings(features, {name: np.ones(count, bool) for name in features}), labels


@pytest.fixture(scope="module")
def data():
    (labelled, labels), (unlabelled, _), (test, truth) = clips(40, 0), clips(12, 1), clips(20, 2)
    return Data(
        labelled=labelled,
        labels=labels,
        fold_of=make_folds(labels, 2, 0),
        training=labelled,
        copy_of=np.zeros(0, int),
        unlabelled=unlabelled,
        unlabelled_truth=np.full(12, -1),
        test=test,
        test_truth=truth,
    )


@pytest.fixture(scope="module")
def config():
    config = get_config()
    config.fusion.update({"hidden": 8, "epochs": 15, "batch_size": 5, "learning_rate": 2e-2, "dropout": 0.0})
    config.self_training.update({"rounds": 1, "k": 2})
    return config


def test_the_papers_tables_name_their_rows():
    assert list(named_rows(table1.get_config(), ALL, 0)) == [
        "HuBERT",
        "GPT4-Baichuan",
        "CLIP",
        "EmoVCLIP",
        "CLIP + EmoVCLIP",
    ]
    rows = named_rows(table2.get_config(), ALL, 0)
    assert rows["dropout 0.3"]["paper"] == ("83.76", "90.15") and rows["dropout 0.3"]["modality_dropout"] == 0.3
    assert list(named_rows(table2.get_config(), ("speech", "image", "text"), 0)) == ["without EmoVCLIP, dropout 0"]
    with pytest.raises(UsageError, match="the run lacks"):
        named_rows(table2.get_config(), ("speech",), 0)


def test_a_search_draws_different_settings_of_its_grid():
    plan = sweep_config.get_config()
    rows = named_rows(plan, ALL, seed=3)
    assert len(rows) == 50 and rows == named_rows(plan, ALL, seed=3) != named_rows(plan, ALL, seed=4)
    assert all(row[key] in plan.search[key] for row in rows.values() for key in row)
    plan.settings = 0
    assert len(named_rows(plan, ALL, 0)) == 4 * 3 * 4 * 3 * 2 * 3


def test_rows_are_scored_over_seeds_and_continue_after_any_round(config, data, tmp_path):
    plan = ConfigDict({"name": "t", "seeds": 2, "self_training": True, "subsets": True})
    rows = {
        "both": {"modalities": "speech+text", "paper": ("1", "2")},
        "narrow": {"modalities": "speech", "hidden": 4},
        "text": {"modalities": "text"},
    }
    entries = sweep(config, plan, rows, data, 2, tmp_path)
    assert [entry["name"] for entry in entries] == list(rows)
    both, narrow, text = entries
    assert both["cv_waf"] > 0.9 and narrow["test_waf"] > 0.9 > text["test_waf"]
    assert list(both["subsets"]) == ["speech", "text", "speech+text"] and list(text["subsets"]) == ["text"]
    assert both["subsets"]["speech"]["test_waf"] > both["subsets"]["text"]["test_waf"]
    assert both["subsets"]["speech+text"]["test_waf"] == pytest.approx(both["test_waf"])
    assert sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir()) == ["rounds-4", "rounds-8"]
    assert sweep(config, plan, rows, data, 2, tmp_path) == entries  # from the rounds that are there

    table = markdown(entries)
    assert "| both |" in table and "| 1 | 2 |" in table and "± " in table


def test_fields_that_a_program_fixes_are_refused(config, data, tmp_path):
    plan = ConfigDict({"name": "t", "seeds": 1, "self_training": False, "subsets": False})
    for row, message in (({"epochs": 3}, "epochs cannot differ"), ({"colour": 1}, "unknown field 'colour'.*hidden")):
        with pytest.raises(UsageError, match=message):
            sweep(config, plan, {"row": row}, data, 2, tmp_path)


def test_the_best_setting_is_a_config(config, tmp_path):
    dump_json(tmp_path / "config.json", {"settings": config.to_dict()})
    path = tmp_path / "sweeps" / "t" / "best.py"
    path.parent.mkdir(parents=True)
    path.write_text(as_config(tmp_path, {"hidden": 256, "l2": 0.5}), "utf-8")
    scope: dict = {"__file__": str(path)}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), scope)
    best = scope["get_config"]()
    assert (best.fusion.hidden, best.fusion.l2, best.fusion.epochs, best.variant) == (256, 0.5, 15, "sample")
