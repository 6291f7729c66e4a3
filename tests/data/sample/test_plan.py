"""Who says what in the sample."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mer_jax.data.sample.cues import EMOTIONS
from mer_jax.data.sample.plan import (
    CANDIDATE_DEFECT,
    DEFECTS,
    LABELLED_DEFECT,
    PERSONS,
    SHARES,
    Defect,
    Reliability,
    SampleSpec,
    draw_cast,
    draw_cue,
    draw_plans,
)
from mer_jax.runtime.errors import UsageError


@pytest.fixture(scope="module")
def plans():
    return draw_plans(SampleSpec())


def test_class_shares_are_those_of_mer2023_in_every_split(plans):
    for split, size in SampleSpec().splits.items():
        counts = Counter(plan.emotion for plan in plans if plan.split == split)
        assert sum(counts.values()) == size
        for emotion in EMOTIONS:
            assert abs(counts[emotion] - size * SHARES[emotion] / sum(SHARES.values())) < 1


def test_names_are_unique_and_tell_neither_split_nor_emotion(plans):
    assert len({plan.name for plan in plans}) == len(plans)
    assert [plan.name for plan in plans] == sorted(plan.name for plan in plans)
    for value in [plans[0].split, *EMOTIONS]:
        places = [i for i, plan in enumerate(plans) if value in (plan.split, plan.emotion)]
        assert abs(np.mean(places) / len(plans) - 0.5) < 0.1


@pytest.mark.parametrize(("spec", "scale"), [(SampleSpec(), 1.0), (SampleSpec(24, 24, 12), 0.04)])
def test_every_defect_occurs_as_often_as_planned(spec, scale):
    plans = draw_plans(spec)
    counts = Counter(plan.defect for plan in plans)
    for defect, count in DEFECTS.items():
        assert counts[defect] == max(1, round(count * scale))
    assert [plan.split for plan in plans if plan.defect == LABELLED_DEFECT] == ["train"]
    (nothing_left,) = (plan for plan in plans if plan.defect == CANDIDATE_DEFECT)
    assert nothing_left.split != "train"
    for plan in plans:
        assert (plan.chinese == "") == (plan.english == "") == (Defect.NO_TRANSCRIPT in plan.defect)
        assert (plan.media != plan.name) == (Defect.MISNAMED in plan.defect)


def test_the_cast_is_large_and_everyone_is_in_every_split(plans):
    assert len(set(draw_cast(SampleSpec()))) == PERSONS >= 16
    for split in SampleSpec().splits:
        assert {plan.person for plan in plans if plan.split == split} == set(range(PERSONS))


def test_modalities_fail_independently_of_each_other(plans):
    wrong = np.array([[c.emotion != p.emotion for c in (p.speech, p.face, p.text, p.scene)] for p in plans])
    correlations = np.corrcoef(wrong, rowvar=False)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.1
    assert (wrong.mean(axis=0) > 0.05).all()


def test_a_cue_is_clear_weak_or_wrong_as_often_as_it_should():
    rng = np.random.default_rng(0)
    cues = [draw_cue("angry", Reliability(clear=0.5, weak=0.3), rng) for _ in range(4000)]
    shares = Counter((cue.emotion == "angry", cue.clear) for cue in cues)
    assert shares[True, True] / 4000 == pytest.approx(0.5, abs=0.03)
    assert shares[True, False] / 4000 == pytest.approx(0.3, abs=0.03)
    assert shares[False, True] / 4000 == pytest.approx(0.2, abs=0.03)


def test_clips_last_one_to_three_seconds(plans):
    frames = np.array([plan.num_frames for plan in plans])
    assert frames.min() >= 8 and frames.max() <= 24
    assert frames.mean() / 8 == pytest.approx(1.6, abs=0.1)


def test_another_seed_gives_other_clips_and_other_persons(plans):
    other = SampleSpec(seed=1)
    assert draw_plans(SampleSpec()) == plans
    assert draw_plans(other) != plans
    assert not set(draw_cast(other)) & set(draw_cast(SampleSpec()))


def test_a_sample_too_small_for_its_defects_is_refused():
    with pytest.raises(UsageError, match="at least 12 labelled"):
        SampleSpec(labelled=5)
    with pytest.raises(UsageError):
        replace(SampleSpec(), unlabelled=-1)
