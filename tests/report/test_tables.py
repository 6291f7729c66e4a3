from mer_jax.report import tables


def test_subsets_are_sorted_best_first(metrics):
    subsets = tables.subsets_best_first(metrics)
    scores = [entry["test_waf"] for entry in subsets]
    assert len(subsets) == 2**4 - 1
    assert scores == sorted(scores, reverse=True)
    for entry in subsets:
        entry["test_waf"] = None
    scores = [entry["cv_waf"] for entry in tables.subsets_best_first(metrics)]
    assert scores == sorted(scores, reverse=True)


def test_the_best_single_modality_is_a_single_one(metrics):
    metrics["single_modality"][-2]["test_waf"] = 0.99  # image + video
    assert tables.best_single(metrics)["modalities"] == ["speech"]
    assert tables.best_single({}) is None


def test_the_test_score_decides_where_it_is_known(metrics):
    metrics["single_modality"] = [
        {"name": name, "modalities": [name], "cv_waf": cv, "test_waf": test}
        for name, cv, test in (("speech", 0.9, 0.5), ("text", 0.6, 0.7), ("video", 0.65, None))
    ]
    assert tables.best_single(metrics)["name"] == "text"
    metrics["modality_subsets"] = metrics["single_modality"]
    assert [entry["name"] for entry in tables.subsets_best_first(metrics)] == ["text", "video", "speech"]


def test_problems_are_grouped_by_reason_most_frequent_first(metrics):
    groups = tables.problem_groups(metrics["problems"])
    assert [group.clips for group in groups] == [14, 8, 7, 1, 1, 1]
    assert groups[0].reason == "no face was found"
    assert groups[0].modality == "image"
    assert set(groups[0].names) == {"unlabeled"}
    assert sum(group.clips for group in groups) == len(metrics["problems"])


def test_our_runs_stand_beside_the_same_experiment(metrics):
    vision = {pair.paper.model: pair.ours for pair in tables.table_1(metrics)["Vision"]}
    assert vision["Paper, CLIP + EmoVCLIP"]["modalities"] == ["image", "video"]
    assert vision["Baseline, CLIP"] is None
    text = {pair.paper.model: pair.ours and pair.ours["name"] for pair in tables.table_1(metrics)["Text"]}
    assert text == {
        "Baseline, Baichuan": None,
        "Paper, Baichuan": "text without ranking",
        "Paper, GPT4-Baichuan": "text",
    }
    ours = {pair.paper.test: pair.ours and pair.ours["name"] for pair in tables.table_2(metrics)}
    assert ours == {
        "86.32 ± 0.22": None,
        "88.68": None,
        "89.52": "dropout 0",
        "89.87": None,
        "90.15": "this run",
        "89.08": None,
    }


def test_a_run_with_other_modalities_has_no_counterpart_in_table_2(metrics):
    for entry in metrics["ablations"]:
        entry["modalities"] = ["speech", "image"]
    assert all(pair.ours is None for pair in tables.table_2(metrics))
