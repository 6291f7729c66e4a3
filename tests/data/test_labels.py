"""Markers of what is missing, and the spellings of one label."""

import pytest

from mer_jax.data.labels import MISSING, UNSAID, rarer_spellings, spelling_key


def test_markers():
    assert {"", "nan", "NaN", "None", "NA", "N/A", "null", "NULL", "<NA>", "-", "?"} <= MISSING
    assert not {"none", "neutral", "0", "-1", "unknown"} & MISSING
    assert UNSAID < MISSING and "None" not in UNSAID  # which people say


@pytest.mark.parametrize("other", ["Happy", "HAPPY", "happy.", "ｈａｐｐｙ", "happy\u3000", "hap\u200bpy", "'happy'"])
def test_one_label_in_two_spellings(other):
    assert spelling_key(other) == spelling_key("happy")


@pytest.mark.parametrize(
    ("one", "other"), [("very happy", "very_happy"), ("1", "1.0"), ("-1", "-1.0"), ("é", "e\u0301")]
)
def test_spellings_inside(one, other):
    assert spelling_key(one) == spelling_key(other)


@pytest.mark.parametrize(("one", "other"), [("1", "-1"), ("1", "10"), ("A", "A+"), ("1.5", "15"), ("高兴", "高興")])
def test_other_labels_stay_others(one, other):
    assert spelling_key(one) != spelling_key(other)


def test_the_commonest_spelling_is_the_label():
    assert rarer_spellings({"Happy": 1, "happy": 2, "sad": 1, "SAD": 1, "!": 1, "?!": 3}) == {
        "Happy": "happy",
        "SAD": "sad",
    }
