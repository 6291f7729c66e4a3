"""Markers of what is missing, and the spellings of one label."""

import pytest

from mer_jax.data.labels import UNSAID, is_missing, rarer_spellings, spelling_key


def test_markers():
    for cells in (
        "nan NaN NAN None NA Na N/A N.A. n.a. null Null NaT nil undefined missing #VALUE! #NULL! #REF! #DIV/0! #NUM!",
        r"(null) <null> <none> \N - -- – — − ― ? ?? . ... … _ / 无 未知 缺失 缺 ＮａＮ Ｎ／Ａ － ？ 'nan' NaN. None.",
    ):
        assert [cell for cell in ["", "#N/A N/A", *cells.split()] if not is_missing(cell)] == []
    labels = "none NONE neutral 0 -1 −1 unknown ! + nano nine n 无奈 (happy) NaNa"
    assert [label for label in labels.split() if is_missing(label)] == []


def test_what_nobody_says():
    assert all(map(is_missing, UNSAID))
    assert not UNSAID & {"None", "Nan", "nil", "null", "na", "..."}  # which people say


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
