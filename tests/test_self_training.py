import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_jax.self_training import (
    Candidates,
    PseudoLabels,
    SelfTrainingSettings,
    all_agree,
    select_balanced,
    select_round,
    self_train,
)

PROBS = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7]])


EVERY = np.ones(6, bool)


def random_probs(seed, clips=40, classes=3):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), clips)


def test_select_takes_the_most_confident_of_each_class():
    indices, labels = select_balanced(PROBS, np.zeros(6, bool), k=2)
    np.testing.assert_array_equal(indices, [0, 3, 2, 5])
    np.testing.assert_array_equal(labels, [0, 0, 1, 1])


def test_select_skips_taken_and_unsure_and_gives_what_there_is():
    taken = np.array([True, False, False, False, False, False])
    indices, labels = select_balanced(PROBS, taken, k=3, min_confidence=0.65)
    np.testing.assert_array_equal(indices, [3, 2, 5])
    np.testing.assert_array_equal(labels, [0, 1, 1])


def test_select_accepts_device_arrays_and_breaks_ties_by_index():
    probs = jax.numpy.tile(jax.numpy.array([0.75, 0.25]), (5, 1))
    indices, _ = select_balanced(probs, jax.numpy.zeros(5, bool), k=3)
    np.testing.assert_array_equal(indices, [0, 1, 2])


def test_many_equally_sure_clips_are_taken_by_index():
    probs = np.tile([0.25, 0.75], (100, 1))
    probs[::2] = [0.75, 0.25]
    indices, labels = select_balanced(probs, np.zeros(100, bool), k=3)
    np.testing.assert_array_equal(indices, [0, 2, 4, 1, 3, 5])
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])


def test_clips_just_sure_enough_may_be_chosen():
    indices, _ = select_balanced(PROBS, np.zeros(6, bool), k=3, min_confidence=0.7)
    np.testing.assert_array_equal(indices, [0, 3, 2, 5])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_select_is_balanced_and_optimal(seed, k):
    probs = random_probs(seed)
    taken = np.random.default_rng(seed).random(len(probs)) < 0.3
    indices, labels = select_balanced(probs, taken, k)
    assert len(set(indices.tolist())) == len(indices)
    assert not taken[indices].any()
    np.testing.assert_array_equal(labels, probs[indices].argmax(1))
    for label in range(3):
        mine = indices[labels == label]
        left = np.setdiff1d(np.flatnonzero(~taken & (probs.argmax(1) == label)), mine)
        assert len(mine) == k or len(left) == 0
        if len(left) and len(mine):
            assert probs[mine].max(1).min() >= probs[left].max(1).max()


def test_rounds_accumulate_without_replacement_and_keep_labels():
    options = SelfTrainingSettings(rounds=3, k=2)
    rounds, pseudo = [], PseudoLabels.none()
    for number in range(3):
        rounds.append(select_round(pseudo, random_probs(number), np.ones(40, bool), options))
        pseudo = rounds[-1].pseudo
    first, second, third = rounds
    assert len(third.pseudo) == 18 == len(set(third.pseudo.indices.tolist())) == options.slots(num_classes=3)
    np.testing.assert_array_equal(third.pseudo.labels[:6], first.added.labels)
    np.testing.assert_array_equal(second.pseudo.indices[6:], second.added.indices)
    np.testing.assert_allclose(first.added.confidences, random_probs(0)[first.added.indices].max(1), rtol=1e-6)


def test_shortfall_is_reported():
    result = select_round(PseudoLabels.none(), PROBS, EVERY, SelfTrainingSettings(k=5))
    np.testing.assert_array_equal(result.shortfall, [2, 2])
    np.testing.assert_array_equal(
        select_round(result.pseudo, PROBS, EVERY, SelfTrainingSettings(k=5)).shortfall, [5, 5]
    )  # nothing is left


def test_replaced_rounds_choose_afresh():
    options = SelfTrainingSettings(k=1, cumulative=False)
    first = select_round(PseudoLabels.none(), PROBS, EVERY, options)
    second = select_round(first.pseudo, PROBS, EVERY, options)
    np.testing.assert_array_equal(second.pseudo.indices, first.pseudo.indices)
    assert options.slots(2) == 2


@pytest.mark.parametrize("relabel", [False, True])
def test_relabelling_takes_the_newest_prediction(relabel):
    options = SelfTrainingSettings(k=1, relabel=relabel)
    first = select_round(PseudoLabels.none(), PROBS, EVERY, options)
    second = select_round(first.pseudo, PROBS[:, ::-1], EVERY, options)
    np.testing.assert_array_equal(second.pseudo.labels[:2], [1, 0] if relabel else [0, 1])
    np.testing.assert_array_equal(second.pseudo.indices[:2], first.pseudo.indices)


def test_relabelled_clips_leave_below_the_least_confidence():
    options = SelfTrainingSettings(k=2, relabel=True, min_confidence=0.65)
    first = select_round(PseudoLabels.none(), PROBS, EVERY, options)
    np.testing.assert_array_equal(first.pseudo.indices, [0, 3, 2, 5])
    unsure = PROBS.copy()
    unsure[[3, 2]] = 0.5
    second = select_round(first.pseudo, unsure, EVERY, options)
    np.testing.assert_array_equal(second.pseudo.indices, [0, 5])
    np.testing.assert_array_equal(second.pseudo.confidences, [0.9, 0.7])


def test_agreement_filter_listens_to_present_modalities_only():
    unimodal = np.stack([PROBS, PROBS[:, ::-1]])
    present = np.array([[True] * 6, [False, True, False, True, False, True]])
    eligible = all_agree(PROBS, unimodal, present)
    np.testing.assert_array_equal(eligible, ~present[1])
    result = select_round(PseudoLabels.none(), PROBS, eligible, SelfTrainingSettings(k=5))
    np.testing.assert_array_equal(result.added.indices, [0, 2, 4])


class Outcome:
    """One setting after a training, with probabilities that are given, [U, C] or of each fold."""

    test_waf = None

    def __init__(self, probs):
        self.probs = probs if probs.ndim == 3 else probs[None]
        self.cv_waf, self.challenge_waf = np.array([0.25, 0.75]), np.array([0.5, 1.0])


def anything(trained):
    return Candidates(trained.probs, np.ones(trained.probs.shape[:2], bool))


# Of training 1, 2 and 3: who is predicted as what, most confident first: 0 and 3, 1 and 4, 2 and 5.
ROUNDS = [
    np.array([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.1, 0.9], [0.4, 0.6], [0.45, 0.55]]),
    np.array([[0.2, 0.8], [0.9, 0.1], [0.55, 0.45], [0.7, 0.3], [0.1, 0.9], [0.45, 0.55]]),
    np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.1, 0.9]]),
]


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_rounds_by_hand_whole_and_resumed_after_any(tmp_path, finished):
    """Each training gets what all rounds before it chose, also when they were chosen by an earlier start."""
    calls = []

    def train(pseudo, number):
        (own,) = pseudo["own"] if pseudo else [PseudoLabels.none()]
        calls.append((number, own.indices.tolist(), own.labels.tolist()))
        if number > stop:
            raise KeyboardInterrupt
        return {"own": Outcome(ROUNDS[number - 1] if number <= 3 else np.zeros((6, 2)))}

    settings = SelfTrainingSettings(rounds=3, k=1)
    stop = finished
    with pytest.raises(KeyboardInterrupt):
        self_train(train, anything, ["own"], settings, tmp_path)
    assert len(list(tmp_path.iterdir())) == finished
    stop, calls = 4, []
    rounds, _ = self_train(train, anything, ["own"], settings, tmp_path)
    expected = [
        (1, [], []),
        (2, [0, 3], [0, 1]),
        (3, [0, 3, 1, 4], [0, 1, 0, 1]),
        (4, [0, 3, 1, 4, 2, 5], [0, 1, 0, 1, 0, 1]),
    ]
    assert calls == expected[finished:]
    assert [saved["own"]["added"][0]["indices"] for saved in rounds] == [[0, 3], [1, 4], [2, 5]]
    assert [saved["own"]["added"][0]["confidences"] for saved in rounds] == [[0.9, 0.9]] * 3
    first = rounds[0]["own"]
    assert (first["cv_waf"], first["challenge_waf"], first["test_waf"]) == ([0.25, 0.75], [0.5, 1.0], None)


def test_every_setting_chooses_for_itself_among_what_is_eligible(tmp_path):
    probs = {"one": ROUNDS[0], "other": ROUNDS[0][:, ::-1]}
    (saved,), _ = self_train(
        lambda pseudo, number: {name: Outcome(probs[name]) for name in probs},
        lambda trained: Candidates(trained.probs, np.arange(6)[None] > 0),
        ["one", "other"],
        SelfTrainingSettings(rounds=1, k=1),
        tmp_path,
    )
    for name, indices in (("one", [1, 3]), ("other", [3, 1])):
        assert saved[name]["pseudo"][0]["indices"] == indices and saved[name]["pseudo"][0]["labels"] == [0, 1]


def test_every_fold_chooses_for_itself_and_goes_on_with_its_own(tmp_path):
    seen = []

    def train(pseudo, number):
        seen.append([own.indices.tolist() for own in pseudo.get("own", [])])
        return {"own": Outcome(np.stack(ROUNDS[:2]))}

    rounds, _ = self_train(train, anything, ["own"], SelfTrainingSettings(rounds=2, k=1), tmp_path)
    assert [own["indices"] for own in rounds[0]["own"]["added"]] == [[0, 3], [1, 4]]
    assert seen == [[], [[0, 3], [1, 4]], [[0, 3, 1, 4], [1, 4, 3, 0]]]
    assert rounds[0]["own"]["shortfall"] == [[0, 0], [0, 0]]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"own": {"pseudo": []}}'])
def test_a_damaged_round_is_named_and_computed_again(tmp_path, capsys, damage):
    numbers = []

    def train(pseudo, number):
        numbers.append(number)
        return {"own": Outcome(ROUNDS[0])}

    settings = SelfTrainingSettings(rounds=2, k=1)
    rounds, _ = self_train(train, anything, ["own"], settings, tmp_path)
    whole = (tmp_path / "round-02.json").read_bytes()
    (tmp_path / "round-02.json").write_bytes(damage)
    numbers.clear()
    assert self_train(train, anything, ["own"], settings, tmp_path)[0] == rounds
    assert numbers == [2, 3] and (tmp_path / "round-02.json").read_bytes() == whole
    assert "round-02.json: " in capsys.readouterr().err


def test_a_round_in_anothers_place_is_computed_again(tmp_path):
    settings = SelfTrainingSettings(rounds=2, k=1)
    train = lambda pseudo, number: {"own": Outcome(ROUNDS[number - 1])}  # noqa: E731
    rounds, _ = self_train(train, anything, ["own"], settings, tmp_path)
    (tmp_path / "round-01.json").write_bytes((tmp_path / "round-02.json").read_bytes())
    assert self_train(train, anything, ["own"], settings, tmp_path)[0] == rounds
