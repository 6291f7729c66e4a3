"""What the charts show: the lines, dots and bands that are drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mer_jax.report import figures, page


@pytest.fixture
def axes(monkeypatch):
    """Charts are matplotlib axes instead of SVG."""

    def drawn(draw, label):
        axes = Figure().add_subplot()
        draw(axes)
        axes.set_title(label)
        return axes

    monkeypatch.setattr(figures, "_chart", drawn)


def points(line):
    return np.asarray(line.get_xydata()).tolist()


def test_a_line_for_each_fold_their_mean_and_a_dot_at_each_best_epoch(axes):
    chart = figures.fold_chart([[1.0, 2.0, 6.0], [5.0, 4.0, 2.0]], "loss", [3, 1])
    first, second, *dots, mean = map(points, chart.lines)
    assert first == [[1, 1], [2, 2], [3, 6]] and second == [[1, 5], [2, 4], [3, 2]]
    assert dots == [[[3, 6]], [[1, 5]]]
    assert mean == [[1, 3], [2, 3], [3, 4]]
    assert chart.get_title() == "loss"


ROUNDS = [
    {"round": 1, "cv_waf": 0.5, "cv_std": 0.1, "test_waf": 0.4},
    {"round": 2, "cv_waf": 0.6, "cv_std": 0.2, "test_waf": 0.5},
]


def test_rounds_and_the_final_ensemble_with_the_folds_spread(axes):
    chart = figures.round_chart(ROUNDS, {"waf": 0.7, "std": 0.3}, {"waf": 0.8})
    cv, test = (np.asarray(points(line)) for line in chart.lines)
    np.testing.assert_allclose(cv, [[0, 50], [1, 60], [2, 70]])
    np.testing.assert_allclose(test, [[0, 40], [1, 50], [2, 80]])
    (band,) = chart.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(6).tolist()}
    assert {(0, 40), (0, 60), (1, 40), (1, 80), (2, 40), (2, 100)} <= corners
    assert [label.get_text() for label in chart.get_xticklabels()] == ["1", "2", "final"]


def test_without_test_labels_there_is_one_line(axes):
    assert len(figures.round_chart(ROUNDS, {"waf": 0.7, "std": 0.3}, None).lines) == 1


def test_each_section_of_the_page_has_its_own_curves(axes, metrics):
    charts = page._charts(metrics)
    for section, name in (("fusion", "Fusion"), ("tune", "EmoVCLIP")):
        loss, waf = charts[section]
        assert [loss.get_title(), waf.get_title()] == [f"{name}: training loss", f"{name}: validation WAF, %"]
        np.testing.assert_allclose(loss.lines[0].get_ydata(), metrics["curves"][section]["loss"][0])
        np.testing.assert_allclose(waf.lines[0].get_ydata(), 100 * np.array(metrics["curves"][section]["waf"][0]))


def test_the_svg_uses_the_pages_colours_and_says_what_it_shows():
    svg = figures.fold_chart([[1.0, 2.0], [3.0, 4.0]], "loss")
    assert svg.startswith('<svg role="img" aria-label="loss"')
    assert "var(--accent)" in svg and "#0000" not in svg and '<g id="' not in svg
    assert svg == figures.fold_chart([[1.0, 2.0], [3.0, 4.0]], "loss")
