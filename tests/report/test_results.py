"""Sections of `metrics.json`: scores against scikit-learn, all else by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from mer_jax.data.clips import Clip, Dataset
from mer_jax.fusion.data import Embeddings, Groups
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.report import results
from mer_jax.report.results import (
    ablation_sections,
    curves_section,
    fusion_sections,
    ranking_section,
    round_sections,
    scores,
    single_sections,
    temperatures_of_others,
)
from mer_jax.text.rankings import Rankings

LABELS = ("x", "y")


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 3, 50), rng.dirichlet([1, 1, 1, 0.1], 50)  # class 3 never occurs
    found = scores(labels, probs, "abcd")
    predictions = probs.argmax(1)
    expected = precision_recall_fscore_support(labels, predictions, labels=range(4), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in found["per_class"]] == pytest.approx(list(values))
    assert found["waf"] == pytest.approx(f1_score(labels, predictions, average="weighted", zero_division=0))
    assert found["accuracy"] == accuracy_score(labels, predictions)
    assert found["confusion"] == confusion_matrix(labels, predictions, labels=range(4)).tolist()


def test_calibration_in_fifteen_bins_by_hand():
    """0.95 falls into the last bin, 0.9 into the one before, where one of two is right."""
    probs = np.array([[0.95, 0.05], [0.1, 0.9], [0.1, 0.9]])
    expected = ((1 - 0.95) + abs((1 - 0.9) + (0 - 0.9))) / 3
    assert scores(np.array([0, 1, 0]), probs, "ab")["ece"] == pytest.approx(expected)


def sure(*predictions):
    """Logits [N, 2] of predicted classes."""
    return np.where(np.arange(2) == np.array(predictions)[:, None], 2.0, 0.0)


class Fusion:
    """Two folds of five labelled clips, of which one is copied twice and one once; three test clips, one unknown."""

    data = SimpleNamespace(
        modalities=("speech", "text"),
        shown=("speech", "text"),
        limited_to=(),
        modality_of={"speech": "speech", "text": "text"},
        num_folds=2,
        labels=np.array([0, 1, 0, 1, 1]),
        fold_of=np.array([0, 0, 1, 1, 1]),
        held_out=np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool),
        copy_of=np.array([0, 0, 2]),
        labelled=Embeddings({}, {"speech": np.array([1, 1, 1, 1, 0], bool), "text": np.ones(5, bool)}),
        test=Embeddings({}, {"speech": np.array([0, 1, 1], bool), "text": np.ones(3, bool)}),
        test_truth=np.array([0, -1, 1]),
        unlabelled_truth=np.array([1, 0, -1]),
        groups=Groups(np.array(list("ppqrr")), np.arange(5, 8), np.arange(8, 11)),
    )
    attention = np.array([[[1, 0], [0, 1], [3, 0], [0, 0], [0, 0]], [[1, 2], [0, 1], [3, 2], [0, 0], [0, 4]]])
    networks = SimpleNamespace(
        scorer=lambda members, *part: SimpleNamespace(attention=np.float32(Fusion.attention))  # [F, L, M]
    )

    def held_out_logits(self, fitted):
        assert fitted is BLIND
        return sure(0, 1, 1, 1, 1)  # the third clip is wrong

    def temperatures(self, trained, clips):
        """Of fold 0's clips by fold 1, and the other way round."""
        return np.array([1.0, 2.0]) if clips[-1] else np.array([4.0, 8.0])

    def waf_given(self, trained, modalities):
        return {"cv_waf": len(modalities) / 4, "test_waf": None}


FITTED, BLIND = (
    SimpleNamespace(
        best_epoch=np.array([2, 0]) + later,
        train_loss=np.array([[3.0, 2], [1, 0.5]]),
        validation_waf=np.array([[0.1, 0.2]] * 2),
    )
    for later in (0, 1)
)
RUN = SimpleNamespace(
    setting=SimpleNamespace(name="run"),
    cv_waf=np.array([1.0, 0.5]),
    challenge_waf=np.array([1.0, 0.75]),
    fitted=FITTED,
    honest=SimpleNamespace(fitted=BLIND, setting=SimpleNamespace(name="twin"), test=np.stack([sure(0, 0, 1)] * 2)),
    members=None,
    votes=None,
    test=np.stack([sure(0, 0, 1), sure(1, 0, 0) / 2]),  # [F, T, C]
)
TEMPERATURES = np.array([4.0, 1.0])
CLIPS = tuple(Clip(f"{split}{i}", split) for split, count in (("train", 5), ("unlabeled", 3)) for i in range(count))
DATASET = Dataset("toy", LABELS, CLIPS, {})


def choice(indices, labels, confidences):
    return {"indices": indices, "labels": labels, "confidences": confidences}


ROUNDS = [
    {
        "cv_waf": [0.2, 0.6],
        "challenge_waf": [0.5, 0.7],
        "test_waf": None,
        "added": [choice([0, 2], [1, 0], [0.9, 0.7])],
        "shortfall": [[0, 0]],
        "pseudo": [choice([0, 2], [1, 0], [0.9, 0.7])],
    },
    {
        "cv_waf": [0.5, 0.5],
        "challenge_waf": [0.5, 0.5],
        "test_waf": 0.75,
        "added": [choice([1], [1], [0.6])],
        "shortfall": [[1, 0]],
        "pseudo": [choice([0, 2, 1], [1, 0, 1], [0.9, 0.7, 0.6])],
    },
]
# Each fold of the twin chooses for itself: one clip of y and none of x, and the other way round.
TWIN_ROUND = ROUNDS[0] | {
    "added": [choice([0], [1], [0.9]), choice([1, 2], [0, 0], [0.8, 0.6])],
    "shortfall": [[2, 1], [0, 2]],
    "pseudo": [choice([0], [1], [0.9]), choice([1, 2], [0, 0], [0.8, 0.6])],
}
SAVED = [{"run": ROUNDS[0], "twin": TWIN_ROUND}, {"run": ROUNDS[1], "twin": TWIN_ROUND}]


@pytest.fixture(scope="module")
def sections():
    fusion = Fusion()
    return fusion_sections(DATASET, fusion, RUN, SAVED, TEMPERATURES, temperatures_of_others(fusion, RUN))


def test_the_data_set_and_its_modalities(sections):
    assert sections["dataset"]["name"] == "toy" and sections["dataset"]["labels"] == ["x", "y"]
    assert sections["dataset"]["modalities"] == ["speech", "text"]
    assert sections["dataset"]["counts"] == {"train": 5, "unlabeled": 3, "test": 0}


def test_cross_validated_scores_are_the_honest_ones_and_the_challenges_stand_beside(sections):
    cv = sections["cv"]
    assert cv["waf"] == 0.75 and cv["std"] == 0.25 and cv["accuracy"] == pytest.approx(0.8)
    assert cv["confusion"] == [[1, 1], [0, 3]]
    assert cv["challenge"] == {"waf": 0.875, "std": 0.125}
    low, high = cv["interval"]
    assert low < 0.75 < high <= 1


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_calibration_goes_by_the_temperatures_of_the_other_folds(sections):
    """Margins of 2: divided by 2 in fold 0; in fold 1 by 8, but by 4 for the clip with one modality."""
    cv = sections["cv"]
    assert cv["ece"] == pytest.approx(sigmoid(2.0) - 0.8)
    first, second, third = (sigmoid(2 / temperature) for temperature in (2, 8, 4))
    expected = (2 * (1 - first) + abs((1 - second) - second) + (1 - third)) / 5
    assert cv["ece_calibrated"] == pytest.approx(expected)
    test = sections["test"]  # margins of the mean logits: 0.5 for x, of text alone and right; 0.5 for y, right
    assert test["ece"] == pytest.approx(1 - sigmoid(0.5))
    assert test["ece_calibrated"] == pytest.approx(1 - (sigmoid(0.125) + sigmoid(0.5)) / 2)
    assert sections["temperatures"] == {"1": 4.0, "2": 1.0}


def test_folds_count_the_clips_that_they_train_on_with_copies_and_pseudo_labels(sections):
    """Fold 0: 3 clips, 1 copy, 1 pseudo-label; fold 1: 2 clips, 2 copies, 2 pseudo-labels."""
    first, second = sections["folds"]
    assert first.pop("accuracy") == 1 and second.pop("accuracy") == pytest.approx(2 / 3)
    scored = {"waf": 1.0, "challenge_waf": 1.0, "best_epochs": [3]}
    assert first == {"fold": 1, **scored, "train": 5, "validation": 2}
    scored = {"waf": 0.5, "challenge_waf": 0.75, "best_epochs": [1]}
    assert second == {"fold": 2, **scored, "train": 6, "validation": 3}
    without = fusion_sections(DATASET, Fusion(), RUN, [], TEMPERATURES, np.tile(TEMPERATURES, (2, 1)))["folds"]
    assert [fold["train"] for fold in without] == [4, 4]


def test_test_scores_are_of_the_clips_whose_label_is_known(sections):
    """Of the clips 0 and 2 the ensemble is right on the first; the folds are right on both and on none."""
    test = sections["test"]
    assert test["confusion"] == [[1, 0], [0, 1]]
    assert test["waf"] == 1 and test["folds_waf_mean"] == 1  # of the twin
    assert test["folds_waf_std"] == pytest.approx(0.5) and test["interval"] == (1.0, 1.0)
    unknown = Fusion()
    unknown.data = SimpleNamespace(**{**vars(Fusion.data), "test_truth": np.full(3, -1)})
    assert fusion_sections(DATASET, unknown, RUN, [], TEMPERATURES, np.tile(TEMPERATURES, (2, 1)))["test"] is None


def test_rounds_by_hand(sections):
    first, second = sections["rounds"]
    assert first.pop("cv_waf") == pytest.approx(0.4) and first.pop("cv_std") == pytest.approx(0.2)
    assert first == {
        "round": 1,
        "challenge_waf": pytest.approx(0.6),
        "test_waf": None,
        "added": {"x": 1, "y": 1},
        "confidence": {"x": 0.7, "y": 0.9},
        "correct": 1,
        "known": 1,
        "shortfall": {},
    }
    assert second == {
        "round": 2,
        "cv_waf": 0.5,
        "cv_std": 0.0,
        "challenge_waf": 0.5,
        "test_waf": 0.75,
        "added": {"x": 0, "y": 1},
        "confidence": {"y": 0.6},
        "correct": 0,
        "known": 1,
        "shortfall": {"x": 1},
    }
    (unknown,) = round_sections(ROUNDS[:1], np.full(3, -1), LABELS)
    assert unknown["correct"] is None and unknown["known"] == 0


def test_of_folds_that_choose_for_themselves_the_mean_is_counted():
    (entry,) = round_sections([TWIN_ROUND], np.array([1, 0, -1]), LABELS)
    assert entry["added"] == {"x": 1.0, "y": 0.5} and entry["shortfall"] == {"x": 1.0, "y": 1.5}
    assert entry["confidence"] == {"x": pytest.approx(0.7), "y": 0.9}
    assert (entry["correct"], entry["known"]) == (2, 2)


def test_every_subset_of_the_modalities_is_scored(sections):
    assert sections["modality_subsets"] == [
        {"modalities": ["speech"], "cv_waf": 0.25, "test_waf": None},
        {"modalities": ["text"], "cv_waf": 0.25, "test_waf": None},
        {"modalities": ["speech", "text"], "cv_waf": 0.5, "test_waf": None},
    ]


def test_attention_is_the_mean_over_folds_and_clips_of_a_label(sections):
    """Mean over folds of the clips of x: (1, 1) and (3, 1); of y: (0, 1), (0, 0) and (0, 2)."""
    assert sections["attention"] == {"x": {"speech": 2.0, "text": 1.0}, "y": {"speech": 0.0, "text": 1.0}}


def test_curves():
    fusion = {"loss": [[3, 2], [1, 0.5]], "waf": [[0.1, 0.2], [0.1, 0.2]]}
    tune = {"loss": [[1.0]], "waf": [[0.5]]}
    assert curves_section(RUN, tune) == {"fusion": fusion, "tune": tune}
    assert curves_section(RUN, None)["tune"] is None


def trained(name, modalities, cv_waf, test_waf, **changes):
    setting = Setting.of(name, FusionSettings(modality_dropout=0.3), modalities, **changes)
    scores = {"cv_waf": np.array(cv_waf), "challenge_waf": np.array(cv_waf) + 0.125, "test_waf": test_waf}
    return SimpleNamespace(setting=setting, twin=None, **scores)


SPEECH = trained("speech", ("speech",), [0.5, 0.7], 0.4)
TEXT = trained("text", ("text",), [0.25, 0.25], None)


@pytest.mark.parametrize("ranked", [True, False])
def test_single_modalities_and_the_bare_text_behind_them(ranked):
    bare = trained("text", ("text",), [0.5, 0.25], 0.125)
    speech, text, without = single_sections({"speech": SPEECH, "text": TEXT}, bare, ranked)
    assert speech.pop("cv_waf") == pytest.approx(0.6) and speech.pop("cv_std") == pytest.approx(0.1)
    assert speech.pop("challenge_waf") == pytest.approx(0.725)
    assert speech == {"name": "speech", "modalities": ["speech"], "ranking": False, "test_waf": 0.4}
    row = {"modalities": ["text"], "test_waf": None, "cv_waf": 0.25, "cv_std": 0, "challenge_waf": 0.375}
    assert text == {**row, "name": "text", "ranking": ranked}
    row = {"modalities": ["text"], "test_waf": 0.125, "cv_waf": 0.375, "cv_std": 0.125, "challenge_waf": 0.5}
    assert without == {**row, "name": "text without ranking", "ranking": False}
    assert len(single_sections({"text": TEXT}, None, ranked)) == 1


def saved(cv_waf, test_waf):
    return {"cv_waf": cv_waf, "challenge_waf": [0.5, 0.5], "test_waf": test_waf}


def test_ablations_are_scored_before_the_first_round_and_after_the_last():
    twin = trained("text, blind", ("text",), [0.25, 0.25], 0.9)
    twin.honest = twin
    text = SimpleNamespace(**vars(TEXT) | {"twin": twin, "honest": twin})
    final = {"text": text, "speech": SPEECH, "text, blind": twin}
    rounds = [
        {"text": saved([0.0, 0.5], 0.1), "speech": saved([0.1, 0.1], None)},
        {"text": saved([0.9, 0.9], 0.9), "speech": saved([0.9, 0.9], 0.9)},
    ]
    rows = ablation_sections(rounds, final)
    assert [(row["name"], row["self_training"], row["cv_waf"], row["test_waf"]) for row in rows] == [
        ("text", False, 0.25, 0.1),
        ("text", True, 0.25, None),
        ("speech", False, pytest.approx(0.1), None),
        ("speech", True, pytest.approx(0.6), 0.4),
    ]
    assert [row["challenge_waf"] for row in rows] == [0.5, 0.375, 0.5, pytest.approx(0.725)]
    assert {row["modality_dropout"] for row in rows} == {0.3} and rows[0]["modalities"] == ["text"]
    alone = ablation_sections([], {"text": trained("text", ("text",), [0.5], None, modality_dropout=0.0)})
    assert [(row["self_training"], row["cv_waf"], row["modality_dropout"]) for row in alone] == [(False, 0.5, 0.0)]


def test_rankings_agree_where_the_true_label_comes_first():
    clips = [
        Clip("a", "train", transcript="one", label="x"),
        Clip("b", "train", transcript="one", label="y"),
        Clip("c", "train", transcript="two", label="x"),
        Clip("d", "unlabeled", transcript="two"),
        Clip("e", "test", transcript="bad"),
        Clip("f", "test"),
    ]
    rankings = Rankings("fake", {"one": ("x", "y", "z"), "two": ("y", "z", "x")}, {"bad": "refused"})
    section = ranking_section(clips, ("x", "y", "z"), rankings, {"added": 3.0})
    assert section == {
        "annotator": "fake",
        "transcripts": 3,
        "ranked": 2,
        "overall": {"clips": 3, "top1": pytest.approx(1 / 3), "top2": pytest.approx(2 / 3)},
        "per_class": {
            "x": {"clips": 2, "top1": 0.5, "top2": 0.5},
            "y": {"clips": 1, "top1": 0.0, "top2": 1.0},
            "z": {"clips": 0, "top1": None, "top2": None},
        },
        "tokens": {"added": 3.0},
        "failures": [{"name": "e", "split": "test", "modality": None, "reason": "refused"}],
    }
    assert ranking_section(clips, ("x", "y"), Rankings.none(), {}) is None


def test_intervals_are_over_groups_within_folds(monkeypatch):
    seen = []
    monkeypatch.setattr(results, "waf_interval", lambda labels, logits, *strata: seen.append(strata) or (0.0, 1.0))
    fusion_sections(DATASET, Fusion(), RUN, SAVED, TEMPERATURES, np.tile(TEMPERATURES, (2, 1)))
    groups, folds = seen[0]
    assert groups.tolist() == list("ppqrr") and folds.tolist() == [0, 0, 1, 1, 1]


def test_where_candidates_lack_modalities_the_score_without_these_comes_first_and_the_full_one_beside(monkeypatch):
    limited = SimpleNamespace(**{**vars(Fusion.data), "shown": ("text",), "limited_to": ("text",)})
    fusion = Fusion()
    monkeypatch.setattr(fusion, "data", limited, raising=False)
    fusion.held_out_given = lambda run, modalities: list(modalities)
    fusion.fold_wafs = lambda shown: np.array([0.25, 0.75]) if shown == ["speech", "text"] else None
    found = results.cv_section(fusion, RUN, LABELS, np.array([[1.0, 2.0]] * 2))
    assert found["waf"] == 0.75 and found["shown"] == ["text"]
    assert found["all_modalities"] == {"waf": 0.5, "std": 0.25}
    assert "shown" not in results.cv_section(Fusion(), RUN, LABELS, np.array([[1.0, 2.0]] * 2))
