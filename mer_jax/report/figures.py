"""Line charts as inline SVG in the page's own colours and fonts, so that they follow light and dark."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mer_jax.report.schema import CrossValidation, Ensemble, Round

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib knows colours, the page knows variables: each is drawn as a stand-in and renamed in the SVG.
SOFT, ACCENT, SECOND = "#000001", "#000003", "#000004"
VARIABLES = {SOFT: "soft", "#000002": "line", ACCENT: "accent", SECOND: "second"}
STYLE = Path(__file__).with_name("chart.mplstyle")


def fold_chart(folds: Sequence[Sequence[float]], label: str, best: Sequence[int] = ()) -> str:
    """One thin line per network of the folds and their mean, over epochs; a dot at each one's `best` epoch."""
    epochs = range(1, len(folds[0]) + 1)
    marker = "." if len(epochs) == 1 else None  # one point makes no line

    def draw(axes: "Axes") -> None:
        for values in folds:
            axes.plot(epochs, values, color=ACCENT, linewidth=0.8, alpha=0.4, marker=marker)
        for epoch, values in zip(best, folds, strict=False):
            axes.plot(epoch, values[epoch - 1], "o", color=SECOND, markersize=4)
        axes.plot(epochs, np.mean(folds, axis=0), color=ACCENT)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")

    return _chart(draw, label)


def round_chart(rounds: Sequence[Round], cv: CrossValidation, test: Ensemble | None) -> str:
    """WAF of each round and of the final one: cross-validated with its spread over folds, and on test."""
    names = [str(entry["round"]) for entry in rounds] + ["final"]
    mean = 100 * np.array([*(entry["cv_waf"] for entry in rounds), cv["waf"]])
    std = 100 * np.array([*(entry["cv_std"] for entry in rounds), cv["std"]])

    def draw(axes: "Axes") -> None:
        axes.fill_between(range(len(mean)), mean - std, mean + std, color=ACCENT, alpha=0.15, linewidth=0)
        axes.plot(mean, "o-", color=ACCENT, markersize=4)
        if test:
            scores = np.array([*(entry["test_waf"] for entry in rounds), test["waf"]], float)  # None: no dot
            axes.plot(100 * scores, "o-", color=SECOND, markersize=4)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("round")

    return _chart(draw, "WAF of each round, %")


def _chart(draw: Callable[["Axes"], None], label: str) -> str:
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context([STYLE, {"svg.hashsalt": label}]):
        figure = Figure(figsize=(4.4, 2.5), layout="constrained")
        axes = figure.add_subplot()
        axes.locator_params(axis="y", nbins=5)
        draw(axes)
        axes.set_title(label, loc="left", fontsize=9.5, color=SOFT)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])  # the same in every chart; an id is unique in a page
    for stand_in, name in VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
