"""Settings x folds: who is trained on what, and what is predicted and scored of it."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.features.embeddings import Features
from mer_jax.fusion.calibration import fit_temperature
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import Embeddings, FusionData, Groups, fusion_data
from mer_jax.fusion.ensemble import MemberOutputs, Members
from mer_jax.fusion.folds import make_folds
from mer_jax.fusion.fusion_settings import FusionSettings
from mer_jax.fusion.trials import Setting
from mer_jax.metrics import softmax, weighted_f1
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_json
from mer_jax.self_training import PseudoLabels, select_balanced
from mer_jax.self_training_settings import SelfTrainingSettings
from tests.fusion.test_data import COPY_OF, DATASET, FOLDS, LABELLED, data, features

SETTINGS = FusionSettings(hidden=4, epochs=3, batch_size=4)
SPEECH = Setting.of("speech", SETTINGS, ("speech",))


def cross_validation(own, settings=SETTINGS, table=(), **self_training):
    self_training = SelfTrainingSettings(**{"rounds": 0, **self_training})
    return CrossValidation(own, Networks(own.dims, 2, settings), 0, table, self_training)


def fit(own):
    return cross_validation(own).train([SPEECH])["speech"]


def test_a_copy_changes_only_the_folds_that_train_on_its_original():
    one, other = (fit(data(scale=scale)[0]) for scale in (1.0, 3.0))
    for fold in range(3):
        same = all(
            np.array_equal(a[fold], b[fold])
            for a, b in zip(jax.tree.leaves(one.fitted.best), jax.tree.leaves(other.fitted.best), strict=True)
        )
        assert same == (fold == FOLDS.fold_of[0])
    assert one.fitted.best.validation_logits.shape[1] == np.bincount(data()[0].fold_of).max()


def test_copies_are_trained_on():
    copied, clean = (fit(own).fitted for own in (data()[0], data(np.zeros(0, int))[0]))
    assert not np.array_equal(copied.train_loss, clean.train_loss)


@pytest.mark.parametrize("chooser", ["own_fold", "all_folds"])
def test_a_clip_without_any_modality_is_never_pseudo_labelled(tmp_path, chooser):
    rows = features()["speech"]
    rows.present[LABELLED] = False  # the first unlabelled clip
    own = fusion_data(DATASET, {"speech": rows}, FOLDS, np.zeros(0, int), standardise="all")[0]
    rounds, _ = cross_validation(own, table=[SPEECH], rounds=2, k=4, chooser=chooser).self_train(tmp_path)
    assert len(rounds[-1]["speech"]["pseudo"]) == (1 if chooser == "all_folds" else 3)
    for saved in rounds[-1].values():
        assert all(sorted(each["indices"]) == [1, 2, 3] for each in saved["pseudo"])


def scored(fusion, logits):
    """Replaces the scorer by one that gives these logits."""
    scorer = lambda members, *clips: MemberOutputs(np.float32(logits), np.zeros((*logits.shape[:2], 1)))  # noqa: E731
    fusion.networks = SimpleNamespace(scorer=scorer, num_classes=2, seeds=len(logits) // 3)
    return Members({}, jnp.arange(len(logits)), jnp.ones((len(logits), 4), bool))


@pytest.fixture(scope="module")
def trained():
    return fit(data()[0])


def chosen(trained, fusion, members, chooser, unimodal=None):
    """Among what a setting with these networks chooses."""
    (logits,) = fusion.fold_logits(members, fusion.data.unlabelled)
    return fusion.candidates(replace(trained, setting=replace(SPEECH, chooser=chooser), unlabelled=logits), unimodal)


def test_the_surest_clips_are_told_apart(trained):
    """By float32 probabilities they would all be as sure, and the first ones would be chosen."""
    fusion = cross_validation(data()[0])
    logits = np.stack([np.stack([margin, np.zeros(4)], axis=-1) for margin in np.linspace([20, 21, 23, 22], 24, 3)])
    (probs,), _ = chosen(trained, fusion, scored(fusion, logits), "all_folds")
    assert (np.float32(probs[:, 0]) == 1).all()
    np.testing.assert_array_equal(select_balanced(probs, np.zeros(4, bool), k=1)[0], [2])


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def test_an_ensemble_averages_logits_not_probabilities(trained):
    """One sure network outweighs two that are unsure: mean logits 2, 0; the mean of probabilities is 0.53, not 0.88."""
    fusion = cross_validation(data()[0])
    logits = np.array([[[8.0, 0.0]], [[-1.0, 0.0]], [[-1.0, 0.0]]]).repeat(4, axis=1)  # [F, U, C]
    members = scored(fusion, logits)
    (probs,), _ = chosen(trained, fusion, members, "all_folds")
    np.testing.assert_allclose(probs, np.tile([sigmoid(2), sigmoid(-2)], (4, 1)), rtol=1e-6)
    own, _ = chosen(trained, fusion, members, "own_fold")
    np.testing.assert_allclose(own[:, 0, 0], sigmoid([8, -1, -1]), rtol=1e-6)


def test_networks_of_a_fold_are_averaged_before_the_folds(trained):
    fusion = cross_validation(data()[0])
    logits = np.array([8.0, 0, -1, -3, 2, 4])[:, None, None] * np.array([1.0, 0]) * np.ones((1, 4, 1))
    own, _ = chosen(trained, fusion, scored(fusion, logits), "own_fold")
    np.testing.assert_allclose(own[:, 0, 0], sigmoid([4, -2, 3]), rtol=1e-6)


def test_a_fold_never_chooses_among_the_groups_that_it_holds_out(trained):
    own = data()[0]
    names = [f"g{i % 4}" for i in range(len(own.labels))]
    own = replace(
        own,
        fold_of=np.arange(len(names)) % 4 % 3,
        groups=Groups(np.array(names), np.array(["g0", "g3", "g1", "x"]), np.array(["x"] * 4)),
    )
    fusion = cross_validation(own)
    members = scored(fusion, np.zeros((3, 4, 2)))
    _, eligible = chosen(trained, fusion, members, "own_fold")
    np.testing.assert_array_equal(eligible, [[0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    _, eligible = chosen(trained, fusion, members, "all_folds")
    np.testing.assert_array_equal(eligible, [[1, 1, 1, 1]])


def test_a_fold_listens_to_its_own_unimodal_networks(trained):
    fusion = cross_validation(data()[0])
    members = scored(fusion, np.tile([1.0, 0], (3, 4, 1)))
    agree = np.ones((3, 4), bool)
    agree[1, 2] = agree[2, 0] = False
    unimodal = np.where(agree[..., None], [1.0, 0], [0, 1.0])[None]  # [M, F, U, C]
    np.testing.assert_array_equal(chosen(trained, fusion, members, "own_fold", unimodal).eligible, agree)
    _, eligible = chosen(trained, fusion, members, "all_folds", unimodal)
    np.testing.assert_array_equal(eligible, np.ones((1, 4)))  # by the mean of the folds' logits


def informative(count, seed):
    """Text and speech of clips of two classes; text tells them apart, speech is noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    clips = {
        "speech": rng.normal(size=(count, 5)).astype(np.float32),
        "text": (labels[:, None] * 2 - 1 + 0.3 * rng.normal(size=(count, 3))).astype(np.float32),
    }
    return Embeddings(clips, {name: np.ones(count, bool) for name in clips}), labels


@pytest.fixture(scope="module")
def told_apart():
    (labelled, labels), (unlabelled, _), (test, truth) = informative(40, 0), informative(12, 1), informative(20, 2)
    fold_of, no_copies = make_folds(labels, 2, 0), np.zeros(0, int)
    groups = Groups(*np.split(np.arange(72), [40, 52]))
    own = FusionData(labelled, labels, fold_of, labelled, no_copies, unlabelled, np.full(12, -1), test, truth, groups)
    settings = FusionSettings(hidden=8, epochs=15, batch_size=5, learning_rate=2e-2, dropout=0.0)
    table = [Setting.of("+".join(seen), settings, seen) for seen in (("text",), ("speech",), ("speech", "text"))]
    fusion = cross_validation(own, settings, table, rounds=1, k=1)
    pseudo = [PseudoLabels(np.array([3]), np.array([1]), np.array([0.9]))]
    return fusion, fusion.train(table, {"text": pseudo}, 1)


def test_a_trial_learns_from_the_modality_that_its_setting_names(told_apart):
    """Text comes behind speech in every order; that it alone tells the classes apart shows who sees what."""
    _, trained = told_apart
    assert trained["text"].test_waf == trained["speech+text"].test_waf == 1.0
    assert trained["speech"].test_waf < 0.75
    assert (trained["text"].cv_waf == 1).all() and trained["speech"].cv_waf.mean() < 0.85
    assert [each.setting.name for each in trained.values()] == ["text", "speech", "speech+text"]


def test_scores_of_a_setting_are_those_of_its_own_networks(told_apart):
    fusion, trained = told_apart
    for setting in trained.values():
        logits = fusion.held_out_logits(setting.fitted)
        for fold, clips in enumerate(fusion.data.held_out):
            expected = weighted_f1(fusion.data.labels[clips], logits[clips].argmax(-1), 2)
            np.testing.assert_allclose(setting.cv_waf[fold], expected, atol=1e-6)
        best = np.asarray(setting.fitted.validation_waf).max(axis=1)
        np.testing.assert_array_equal(setting.challenge_waf, best)
    both = trained["speech+text"]
    np.testing.assert_allclose(
        fusion.held_out_given(both, ("speech", "text")), fusion.held_out_logits(both.fitted), atol=1e-5
    )
    assert fusion.waf_given(both, ("speech", "text"))["test_waf"] == both.test_waf
    assert fusion.waf_given(trained["text"], ("text",))["test_waf"] == 1.0
    assert fusion.waf_given(both, ("speech",))["test_waf"] < 0.75


def test_the_best_epoch_predicts_and_the_last_one_is_scored(told_apart):
    """As the paper does; where the last epoch is asked for it predicts, too."""
    fusion, trained = told_apart
    (text, *_), both = fusion.settings, trained["speech+text"]
    assert text.best_epoch
    for name in ("best", "final"):
        kept = jax.tree.leaves(both.members.params if name == "best" else both.blind_members.params)
        own = jax.tree.leaves(getattr(both.fitted, name).params)
        assert all(np.array_equal(a, b) for a, b in zip(kept, own, strict=True))
    last = fusion.train([replace(both.setting, best_epoch=False)])["speech+text"]
    for a, b in zip(jax.tree.leaves(last.members.params), jax.tree.leaves(last.fitted.final.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_setting_that_would_flatter_has_a_twin_which_is_scored_in_its_place(told_apart, tmp_path):
    fusion, _ = told_apart
    names = ["text", "speech", "speech+text"]
    assert [setting.name for setting in fusion.settings] == names + [f"{name}, blind" for name in names]
    rounds, final = fusion.self_train(tmp_path)
    for name in names:
        own, twin = final[name], final[f"{name}, blind"]
        assert own.honest is own.twin is twin and twin.honest is twin
        assert own.setting.chooser == "all_folds" and own.setting.best_epoch
        assert twin.setting.chooser == "own_fold" and not twin.setting.best_epoch
        np.testing.assert_array_equal(own.cv_waf, fusion.fold_wafs(fusion.held_out_logits(twin.fitted)))
        assert len(rounds[0][name]["pseudo"]) == 1 and len(rounds[0][twin.setting.name]["pseudo"]) == 2
        assert rounds[0][name]["cv_waf"] == rounds[0][twin.setting.name]["cv_waf"]
    assert fusion.networks.trainer.compilations == 1


def test_temperatures_are_those_of_held_out_clips_shown_every_subset(told_apart):
    fusion, trained = told_apart
    both, data = trained["speech+text"], fusion.data
    some = data.fold_of == 0
    logits = [fusion.held_out_given(both, part)[some] for part in (("speech",), ("text",), ("speech", "text"))]
    expected = [fit_temperature(np.concatenate(logits[:2]), np.tile(data.labels[some], 2))]
    expected.append(fit_temperature(logits[2], data.labels[some]))
    np.testing.assert_allclose(fusion.temperatures(both, some), expected)
    assert not np.allclose(fusion.temperatures(both), expected)


@pytest.mark.parametrize("chooser", ["own_fold", "all_folds"])
def test_confidence_is_calibrated_by_the_other_folds(told_apart, monkeypatch, chooser):
    """Never by its own held-out clips where it chooses itself; a twin's is not calibrated at all."""
    fusion, trained = told_apart
    both = replace(trained["speech+text"], setting=replace(trained["speech+text"].setting, chooser=chooser))
    options = replace(fusion.self_training, calibrated=True)
    own = CrossValidation(fusion.data, fusion.networks, 0, [], options)
    seen = []

    def temperatures(setting, clips):
        seen.append(clips)
        return np.array([1.0, 2.0 * len(seen)])

    monkeypatch.setattr(own, "temperatures", temperatures)
    probs, _ = own.candidates(both)
    if chooser == "own_fold":
        np.testing.assert_array_equal(seen, ~fusion.data.held_out)
        expected = [softmax(logits / (2.0 * (fold + 1))) for fold, logits in enumerate(both.unlabelled)]
    else:
        assert len(seen) == 1 and seen[0].all()
        expected = [softmax(both.unlabelled.mean(axis=0) / 2)]
    np.testing.assert_allclose(probs, expected)
    own.twins = {both.setting.name}
    logits = both.unlabelled if chooser == "own_fold" else both.unlabelled.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(own.candidates(both).probs, softmax(logits))


@pytest.mark.parametrize("calibrated", [False, True])
def test_labels_that_a_fold_holds_out_change_nothing_in_its_honest_networks(told_apart, tmp_path, calibrated):
    """Bit for bit, whatever they are; the other folds' networks learn from them."""
    fusion, _ = told_apart
    options = SelfTrainingSettings(
        rounds=2, k=2, min_confidence=0.6, relabel=True, agreement=True, calibrated=calibrated
    )
    found = []
    for flip in (False, True):
        held_out = fusion.data.held_out[0]
        data = replace(fusion.data, labels=np.where(held_out & flip, 1 - fusion.data.labels, fusion.data.labels))
        own = CrossValidation(data, fusion.networks, 0, [fusion.settings[2]], options)
        _, final = own.self_train(tmp_path / str(flip))
        found.append(own.held_out_logits(final["speech+text"].honest.fitted))
    np.testing.assert_array_equal(found[0][held_out], found[1][held_out])
    assert not np.array_equal(found[0][~held_out], found[1][~held_out])


def test_what_chooses_for_a_fold_has_seen_none_of_its_labels(told_apart):
    """In `waf_without`; the clips of other folds are scored there, and their labels count."""
    fusion, _ = told_apart
    thirds = replace(fusion.data, fold_of=(np.arange(len(fusion.data.labels)) % 3).astype(np.int32))
    wafs = []
    for flipped in (None, 0, 1):
        labels = np.where(thirds.fold_of == flipped, 1 - thirds.labels, thirds.labels)
        data = replace(thirds, labels=labels)
        wafs.append(CrossValidation(data, fusion.networks, 0).waf_without(fusion.settings[:2], 0))
    assert np.isnan(wafs[0][:, 0]).all() and np.isfinite(wafs[0][:, 1:]).all()
    np.testing.assert_array_equal(wafs[0], wafs[1])
    assert not np.array_equal(wafs[0][:, 1:], wafs[2][:, 1:])


def test_agreement_asks_networks_of_each_modality_that_no_held_out_clip_chose(told_apart):
    fusion, trained = told_apart
    voters = fusion.voters()
    table = {
        modality: replace(trained[modality].setting, best_epoch=False, chooser="own_fold")
        for modality in ("speech", "text")
    }
    alone = {
        name: replace(each, hyperparameters=each.hyperparameters._replace(modality_dropout=0.0))
        for name, each in table.items()
    }
    expected = [each.unlabelled for each in fusion.train(list(alone.values())).values()]
    np.testing.assert_array_equal(voters, expected)


def test_predictions_are_calibrated_by_how_much_is_present(told_apart):
    fusion, trained = told_apart
    both = trained["speech+text"]
    temperatures = fusion.temperatures(both)
    assert temperatures.shape == (2,)
    hidden = CrossValidation(replace(fusion.data, test=fusion.data.test.only(["text"])), fusion.networks, 0)
    for own, count in ((fusion, 2), (hidden, 1)):
        probs = own.predictions(both, temperatures)["test"]
        np.testing.assert_allclose(probs, softmax(both.test.mean(axis=0) / temperatures[count - 1]))
    assert fusion.predictions(both, temperatures)["unlabeled"].shape == (12, 2)


def test_pseudo_labelled_clips_join_the_setting_that_chose_them_alone(told_apart):
    fusion, trained = told_apart
    table = [each.setting for each in trained.values()]
    without = fusion.train(table, {}, 1)
    for name, changed in (("text", True), ("speech", False), ("speech+text", False)):
        losses = np.asarray(trained[name].fitted.train_loss), np.asarray(without[name].fitted.train_loss)
        assert np.array_equal(*losses) != changed


def test_pseudo_labels_of_a_fold_join_that_fold_alone(told_apart):
    fusion, trained = told_apart
    text = trained["text"].setting
    none, some = PseudoLabels.none(), PseudoLabels(np.array([3, 4]), np.array([1, 0]), np.ones(2))
    without, one = (fusion.train([text], {"text": pseudo}, 1)["text"] for pseudo in ([none, none], [none, some]))
    losses = [np.asarray(each.fitted.train_loss) for each in (without, one)]
    assert np.array_equal(losses[0][0], losses[1][0]) and not np.array_equal(losses[0][1], losses[1][1])


def test_without_test_labels_there_is_no_test_score(told_apart):
    fusion, trained = told_apart
    own = fusion.data
    unknown = CrossValidation(replace(own, test_truth=np.full(20, -1)), fusion.networks, 0)
    assert unknown.test_waf(trained["text"].test[0]) is None
    half = np.where(np.arange(20) < 10, own.test_truth, -1)
    some = CrossValidation(replace(own, test_truth=half), fusion.networks, 0)
    assert some.test_waf(np.eye(2)[np.append(own.test_truth[:10], 1 - own.test_truth[10:])]) == 1.0


def test_absent_features_are_no_features():
    present = np.zeros(len(DATASET.clips) + len(COPY_OF), bool)
    present[:LABELLED] = True
    rows = features()["speech"]
    own, _ = fusion_data(DATASET, {"speech": Features(rows.embeddings, present, {})}, FOLDS, COPY_OF, "all")
    assert not own.unlabelled.present["speech"].any() and len(own.copy_of) == 0


WILD = Setting.of("wild", SETTINGS, ("speech",), learning_rate=1e30)


def test_a_setting_that_diverges_has_no_scores_and_the_others_keep_theirs(tmp_path):
    fusion = cross_validation(data()[0], table=[SPEECH, WILD], rounds=1, k=1, chooser="own_fold")
    rounds, final = fusion.self_train(tmp_path, needed="speech")
    wild, speech = final["wild"], final["speech"]
    assert wild.divergence == "fold 1, epoch 1: the loss is not finite" and not speech.divergence
    assert np.isnan(wild.cv_waf).all() and np.isnan(wild.challenge_waf).all() and wild.test_waf is None
    assert np.isfinite(speech.cv_waf).all() and load_json(tmp_path / "round-01.json")["wild"]["cv_waf"] == [None] * 3
    assert not any(each["indices"] for each in rounds[0]["wild"]["pseudo"])
    assert any(each["indices"] for each in rounds[0]["speech"]["pseudo"])


def test_nothing_is_predicted_from_a_run_that_diverges(tmp_path):
    fusion = cross_validation(data()[0], table=[WILD], rounds=3, k=1, chooser="all_folds")
    message = (
        r"diverged \(wild, fold 1, epoch 1: the loss is not finite\): lower fusion\.learning_rate, which is 1e\+30"
    )
    with pytest.raises(DataError, match=message):
        fusion.self_train(tmp_path, needed="wild")
    assert not list(tmp_path.iterdir())


def test_logits_that_are_not_finite_are_noticed_without_the_loss():
    trained = fit(data()[0])
    fusion = cross_validation(data()[0])
    assert fusion.divergence(trained.fitted, trained.unlabelled, trained.test) == ""
    assert fusion.divergence(trained.fitted, trained.unlabelled * np.inf) == "its logits are not finite"


def test_rounds_of_other_data_settings_or_seeds_are_not_gone_on_with(tmp_path, capsys):
    def rounds(own, **changes):
        settings = replace(SETTINGS, **changes)
        setting = Setting.of("speech", settings, ("speech",))
        return cross_validation(own, settings, [setting], rounds=1, k=1).self_train(tmp_path)[0]

    own = data()[0]
    first = rounds(own)
    capsys.readouterr()
    assert rounds(own) == first and not capsys.readouterr().err
    for again in (lambda: rounds(own, l2=0.1), lambda: rounds(replace(own, digest="other")), lambda: rounds(own)):
        again()
        assert "round-01.json: made by other settings or inputs than these: made again" in capsys.readouterr().err


def test_held_out_clips_show_what_the_candidates_have_wherever_they_choose(told_apart):
    """Text, which tells the classes apart, is hidden from them, and trained on all the same."""
    whole, trained = told_apart
    fusion = CrossValidation(replace(whole.data, limited_to=("speech",)), whole.networks, 0, [], whole.self_training)
    table = [each.setting for each in trained.values()]
    limited = fusion.train(table)
    full = CrossValidation(whole.data, whole.networks, 0, [], whole.self_training).train(table)
    both = limited["speech+text"]
    for a, b in zip(
        *(jax.tree.leaves(each["speech+text"].fitted.final.params) for each in (limited, full)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(fusion.held_out_logits(both.fitted), fusion.held_out_given(both, ("speech",)), atol=1e-5)
    assert both.cv_waf.mean() < 0.85 and (full["speech+text"].cv_waf == 1).all()
    np.testing.assert_array_equal(both.challenge_waf, np.asarray(both.fitted.validation_waf).max(axis=1))
    assert (limited["text"].cv_waf == 1).all()  # it sees nothing of what they show, and is shown what it sees
    logits = fusion.held_out_given(both, ("speech",))
    np.testing.assert_allclose(fusion.temperatures(both)[0], fit_temperature(logits, fusion.data.labels))
