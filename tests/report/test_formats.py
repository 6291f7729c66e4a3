import pytest

from mer_jax.report import formats


def test_percent_and_spread():
    assert formats.percent(0.84349) == "84.3"
    assert formats.percent(None) == "–"
    assert formats.spread(0.832, 0.0114) == "83.2 ± 1.1"
    assert formats.number(-0.125) == "−0.12"


@pytest.mark.parametrize(
    ("after", "before", "text"),
    [(0.85, 0.838, "+1.2"), (0.834, 0.838, "−0.4"), (0.83804, 0.838, "0.0"), (None, 0.8, "–"), (0.8, None, "–")],
)
def test_points_carry_a_sign(after, before, text):
    assert formats.points(after, before) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (83.4, "1 min 23 s"),
        (3599.7, "1 h 00 min"),
        (7503, "2 h 05 min"),
    ],
)
def test_duration(seconds, text):
    assert formats.duration(seconds) == text


def test_listing():
    assert formats.listing(["speech", "image", "text"]) == "speech, image and text"
    assert formats.listing(["speech"]) == "speech"
    assert formats.listing([]) == "none"
