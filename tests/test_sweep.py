"""Settings side by side: which rows there are, what they score, and the config that the best one becomes."""

from dataclasses import replace

import numpy as np
import pytest

from configs import sweep as sweep_config
from configs import table1, table2
from configs import top as top_config
from mer_jax import sweep_rows
from mer_jax.data.corruptions import CorruptionsSettings, TrainingCorruptionSettings
from mer_jax.data.dataset import FolderData
from mer_jax.fusion.data import Embeddings, FusionData, Groups
from mer_jax.fusion.folds import FoldSettings, make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import dump_json, load_json
from mer_jax.runtime.kept import KEPT
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.self_training_settings import SelfTrainingSettings
from mer_jax.settings import Settings
from mer_jax.sweep_rows import Row, mean_and_spread, train_rows
from mer_jax.sweep_settings import SweepSettings
from mer_jax.text import rankings
from mer_jax.text.ranking_settings import RankingSettings
from tests.commands import import_command

module = import_command("sweep")
as_config, markdown = module.as_config, module.markdown
plan_rows = module.plan_rows

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
    return FusionData(
        labelled=labelled,
        labels=labels,
        fold_of=make_folds(labels, 2, 0),
        training=labelled,
        copy_of=np.zeros(0, int),
        unlabelled=unlabelled,
        unlabelled_truth=np.full(12, -1),
        test=test,
        test_truth=truth,
        groups=Groups(np.arange(40), np.arange(40, 52), np.arange(52, 72)),
    )


@pytest.fixture(scope="module")
def settings():
    return Settings(
        fusion=FusionSettings(hidden=8, epochs=15, batch_size=5, learning_rate=5e-3, dropout=0.0),
        self_training=SelfTrainingSettings(rounds=1, k=2),
    )


def rows_of(config, modalities, seed=0):
    return plan_rows(read_settings(SweepSettings, config), modalities, seed)


def test_the_papers_tables_name_their_rows():
    assert [row.name for row in rows_of(table1.get_config(), ALL)] == [
        "HuBERT",
        "GPT4-Baichuan",
        "CLIP",
        "EmoVCLIP",
        "CLIP + EmoVCLIP",
    ]
    rows = {row.name: row for row in rows_of(table2.get_config(), ALL)}
    assert rows["dropout 0.3"] == Row("dropout 0.3", ALL, {"modality_dropout": 0.3}, ("83.76", "90.15"))
    (bare,) = rows_of(table2.get_config(), ("speech", "image", "text"))
    assert bare.name == "without EmoVCLIP, dropout 0" and bare.modalities == ("speech", "image", "text")
    with pytest.raises(UsageError, match="the run lacks"):
        rows_of(table2.get_config(), ("speech",))


def test_a_search_draws_different_settings_of_its_grid():
    config = sweep_config.get_config()
    rows = rows_of(config, ALL, seed=3)
    assert len({row.name for row in rows}) == 50
    assert rows == rows_of(config, ALL, seed=3) != rows_of(config, ALL, seed=4)
    assert all(value in config.search[key] for row in rows for key, value in row.changes.items())
    assert {len(row.changes) for row in rows} == {6} and {row.modalities for row in rows} == {ALL}
    config.settings = 0
    assert len(rows_of(config, ALL)) == 4 * 3 * 4 * 3 * 2 * 3


def test_rows_are_scored_over_seeds_and_continue_after_any_round(settings, data, tmp_path):
    plan = SweepSettings("t", seeds=2, self_training=True, subsets=True)
    rows = [
        Row("both", ("speech", "text"), {}, ("1", "2")),
        Row("narrow", ("speech",), {"hidden": 4}),
        Row("text", ("text",), {}),
    ]
    entries = train_rows(settings, plan, rows, lambda standardise: data, 2, tmp_path)
    assert [entry["name"] for entry in entries] == ["both", "narrow", "text"]
    both, narrow, text = entries
    assert narrow["cv_waf"] > 0.8 and narrow["test_waf"] > 0.9 > text["test_waf"]
    assert both["cv_waf"] > text["cv_waf"] + 0.2
    assert text["cv_std"] > 0  # seeds differ
    assert list(both["subsets"]) == ["speech", "text", "speech+text"] and list(text["subsets"]) == ["text"]
    assert both["subsets"]["speech"]["test_waf"] > both["subsets"]["text"]["test_waf"]
    assert both["subsets"]["speech+text"]["test_waf"] == pytest.approx(both["test_waf"])
    assert len(list(tmp_path.glob("rounds-*/round-01.json"))) == 2  # of either width
    assert (
        train_rows(settings, plan, rows, lambda standardise: data, 2, tmp_path) == entries
    )  # from the rounds that are there

    assert all(entry["challenge_waf"] >= entry["cv_waf"] - 0.1 for entry in entries)

    table = markdown(entries)
    assert "| both |" in table and "| 1 | 2 |" in table and "± " in table


def test_rows_of_other_epochs_networks_and_rounds_have_programs_of_their_own(settings, data, tmp_path):
    plan = SweepSettings("t", self_training=True)
    rows = [
        Row("first", ("speech",), {"epochs": 1}),
        Row("paper", ("speech",), {}),
        Row("blind", ("speech",), {"network": "last", "self_training.chooser": "own_fold"}),
        Row("raw", ("speech",), {"standardise": "none"}),
    ]
    asked = []
    entries = train_rows(settings, plan, rows, lambda standardise: asked.append(standardise) or data, 2, tmp_path)
    assert asked == ["all", "all", "all", "none"] and [entry["name"] for entry in entries] == [row.name for row in rows]
    first, paper, blind, raw = entries
    assert first["cv_waf"] < paper["cv_waf"] == raw["cv_waf"]
    assert blind["cv_waf"] == pytest.approx(paper["cv_waf"])  # which is its twin's
    saved = [sorted(load_json(path).keys() - {KEPT}) for path in tmp_path.glob("rounds-*/round-01.json")]
    assert sorted(map(len, saved)) == [1, 2, 2, 2] and ["blind, seed 0"] in saved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour: unknown; known: hidden"),
        ({"self_training.colour": 1}, "colour: unknown; known: rounds"),
        ({"network": "first"}, "network='first': unknown; known: best, last, average"),
        ({"dropout": 1.0}, "dropout=1.0: at most 0.99"),
    ],
)
def test_fields_that_there_are_not_are_refused(settings, data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        train_rows(
            settings, SweepSettings("t"), [Row("row", ("speech",), changes)], lambda standardise: data, 2, tmp_path
        )


def test_the_best_setting_is_a_config(settings, tmp_path):
    dump_json(tmp_path / "config.json", {"settings": as_dict(settings)})
    path = tmp_path / "sweeps" / "t" / "best.py"
    path.parent.mkdir(parents=True)
    path.write_text(as_config(tmp_path, {"hidden": 256, "self_training.k": 3, "l2": 0.5}, "the best of 9"), "utf-8")
    scope: dict = {"__file__": str(path)}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), scope)
    best = read_settings(Settings, scope["get_config"]())
    changed = replace(settings, fusion=replace(settings.fusion, hidden=256, l2=0.5))
    changed = replace(changed, self_training=replace(settings.self_training, k=3))
    assert best == replace(changed, cv=FoldSettings(settings_from="the best of 9"))


def test_the_best_streams_are_chosen_and_become_a_config(settings, data, tmp_path):
    """Of speech, "good" tells the classes apart, "bad" says nothing; text says nothing, either."""

    def renamed(clips):
        features = {"good": clips.features["speech"], "bad": clips.features["text"][:, :2]}
        features["text"] = clips.features["text"]
        return Embeddings(features, dict.fromkeys(features, clips.present["text"]), {"good": "speech", "bad": "speech"})

    parts = {name: renamed(getattr(data, name)) for name in ("labelled", "training", "unlabelled", "test")}
    streams = replace(data, **parts, fold_of=make_folds(data.labels, 3, 0))
    asked = {"good": {"modality": "speech", "feature": "g"}, "bad": {"modality": "speech", "feature": "b"}}
    features = {"data": {"text_feature": "t", "modalities": "speech+text"}, "variant": "folder", "streams": asked}
    settings = replace(read_settings(Settings, features), fusion=settings.fusion, left_out="speech")
    dump_json(tmp_path / "config.json", {"settings": as_dict(settings)})
    plan = read_settings(SweepSettings, {**top_config.get_config(), "seeds": 2})
    folder = tmp_path / "sweeps" / "top"
    results, table, config = module.top_streams(tmp_path, settings, plan, lambda standardise: streams, 2, folder)
    rows = {row["name"]: row for row in results["rows"]}
    assert {"good", "bad", "text", "good+bad", "good+text", "good+bad+text"} <= set(rows)
    assert rows["good"]["cv_waf"] > 0.8 > 0.7 > rows["bad"]["cv_waf"] and np.shape(rows["good"]["folds"]) == (2, 3)
    best = results["choices"][-1]
    assert "good" in best["chosen"] and best["cv_waf"] > 0.8 and len(best["by_fold"]) == 3
    assert "| good | best 1 of speech |" in table and "| the best of all |" in table
    scope: dict = {"__file__": str(folder / "best.py")}
    exec(compile(config, "best.py", "exec"), scope)
    trained = read_settings(Settings, scope["get_config"]())
    assert "+".join(trained.sources) == best["chosen"] and trained.cv.settings_from.startswith("the best of ")
    with pytest.raises(UsageError, match="neither rows"):
        module.top_streams(tmp_path, settings, replace(plan, subsets=True), lambda _: streams, 2, folder)
    seen = replace(streams, limited_to=("speech",))  # as candidates who are heard alone have it
    results, _, config = module.top_streams(tmp_path, settings, plan, lambda _: seen, 2, folder)
    assert {row["name"] for row in results["rows"]} == {"good", "bad", "good+bad"}
    assert "text" in config.split("left_out = ")[1].split("\n")[0]
    with pytest.raises(UsageError, match="has 2 folds"):
        module.top_streams(tmp_path, settings, plan, lambda _: replace(data, **parts), 2, folder)
    alone = replace(data, labelled=data.labelled._replace(features={"text": data.labelled.features["text"]}))
    with pytest.raises(UsageError, match="the run has one stream, text"):
        module.top_streams(tmp_path, settings, plan, lambda _: alone, 2, folder)


def test_mean_and_spread_over_seeds_by_hand():
    assert mean_and_spread("cv", [0.5, 0.7]) == {"cv_waf": pytest.approx(0.6), "cv_std": pytest.approx(0.1)}
    assert mean_and_spread("test", [None, None]) == {"test_waf": None, "test_std": None}


def test_features_of_a_run_are_loaded_without_asking_a_paid_annotator(tmp_path, monkeypatch):
    """Text comes ready-made: nothing reads a ranking, though the run's settings name an annotator."""

    def construct(settings, asks=True):
        raise AssertionError(f"an annotator was made: {settings.annotator}")

    monkeypatch.setattr(rankings, "make_annotator", construct)
    root, features = tmp_path / "data", tmp_path / "data" / "features" / "bert"
    features.mkdir(parents=True)
    rows = [(f"c{i}", ("happy", "sad", "")[i % 3], f"{i}", [i + 1, i * i]) for i in range(9)]
    table = "\n".join(["name,label,text", *(f"{name},{label},{text}" for name, label, text, _ in rows)])
    (root / "clips.csv").write_text(table, "utf-8")
    for name, _, _, numbers in rows:
        np.save(features / f"{name}.npy", np.array(numbers, np.float32))
    settings = Settings(
        variant="folder",
        data=FolderData(root=str(root), modalities="text", text_feature="bert"),
        cv=FoldSettings(folds=2),
        fusion=FusionSettings(standardise="none"),
        ranking=RankingSettings(annotator="openai"),
        corruptions=CorruptionsSettings(training=TrainingCorruptionSettings(probability=1.0)),
    )
    data_of, num_classes = module.run_data(settings, tmp_path / "run")
    data = data_of("none")
    assert num_classes == 2 and data.modalities == ("text",) and data.num_folds == 2
    np.testing.assert_array_equal(data.unlabelled.features["text"], [[3, 4], [6, 25], [9, 64]])
    np.testing.assert_array_equal(data.labels, [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(data.copy_of, np.arange(6))  # each has a copy
    assert np.abs(data_of("all").unlabelled.features["text"]).max() < 3
    encoded = replace(settings, data=FolderData(root=str(root), modalities="text"))
    with pytest.raises(AssertionError, match="an annotator was made: openai"):
        module.run_data(encoded, tmp_path / "other")


def test_a_row_that_diverges_is_marked_and_the_others_go_on(settings, data, tmp_path):
    rows = [Row("wild", ("speech",), {"learning_rate": 1e30}), Row("tame", ("speech",), {})]
    wild, tame = train_rows(settings, SweepSettings("t", seeds=2), rows, lambda standardise: data, 2, tmp_path)
    assert wild["cv_waf"] is wild["test_waf"] is None and tame["cv_waf"] > 0.8 and not tame["divergence"]
    assert "| wild (diverged: fold 1, epoch 1: the loss is not finite) | – |" in markdown([wild, tame])


def test_rows_that_are_done_are_not_trained_again(settings, data, tmp_path, monkeypatch, capsys):
    """Two programs; the rows of one are damaged."""
    rows = [Row("wide", ("speech",), {}, ("1", "2")), Row("narrow", ("speech",), {"hidden": 4})]
    plan, trained = SweepSettings("t", subsets=True), []
    entries = train_rows(settings, plan, rows, lambda standardise: data, 2, tmp_path)
    self_train = sweep_rows.CrossValidation.self_train
    monkeypatch.setattr(
        sweep_rows.CrossValidation,
        "self_train",
        lambda self, *rest: trained.append(self.settings) or self_train(self, *rest),
    )
    assert train_rows(settings, plan, rows, lambda standardise: data, 2, tmp_path) == entries and not trained
    damaged, _ = sorted(tmp_path.glob("rounds-*/rows.json"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    capsys.readouterr()
    assert train_rows(settings, plan, rows, lambda standardise: data, 2, tmp_path) == entries
    assert len(trained) == 1 and f"{damaged}: " in capsys.readouterr().err
    changed = replace(data, digest="other features")
    train_rows(settings, plan, rows, lambda standardise: changed, 2, tmp_path)
    assert len(trained) == 3
