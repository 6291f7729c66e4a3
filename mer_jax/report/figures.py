"""Line charts as inline SVG in the page's own colours and fonts, so that they follow light and dark."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mer_jax.report.schema import CrossValidation, Ensemble, Fold, Round

# matplotlib knows colours, the page knows variables: each is drawn as a stand-in and renamed in the SVG.
SOFT, LINE, ACCENT, SECOND = "#000001", "#000002", "#000003", "#000004"
VARIABLES = {SOFT: "soft", LINE: "line", ACCENT: "accent", SECOND: "second"}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 9.5,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "ytick.left": False,
    "axes.axisbelow": True,
}


def fold_chart(folds: Sequence[Sequence[float]], label: str, best: Sequence["Fold"] = ()) -> str:
    """One thin line per fold and their mean, over epochs; a dot where each of `best` kept its epoch."""
    epochs = range(1, len(folds[0]) + 1)
    marker = "." if len(epochs) == 1 else None  # one point makes no line

    def draw(axes: "Axes") -> None:
        for values in folds:
            axes.plot(epochs, values, color=ACCENT, linewidth=0.8, alpha=0.4, marker=marker)
        for fold, values in zip(best, folds, strict=False):
            epoch = fold["best_epoch"]
            axes.plot(epoch, values[epoch - 1], "o", color=SECOND, markersize=4)
        axes.plot(epochs, [sum(column) / len(column) for column in zip(*folds, strict=True)], color=ACCENT)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("epoch")

    return _chart(draw, label)


def round_chart(rounds: Sequence["Round"], cv: "CrossValidation", test: "Ensemble | None") -> str:
    """WAF of each round and of the final one: cross-validated with its spread over folds, and on test."""
    names = [str(entry["round"]) for entry in rounds] + ["final"]
    mean = _percent([*(entry["cv_waf"] for entry in rounds), cv["waf"]])
    std = _percent([*(entry["cv_std"] for entry in rounds), cv["std"]])

    def draw(axes: "Axes") -> None:
        low = [m - s for m, s in zip(mean, std, strict=True)]
        high = [m + s for m, s in zip(mean, std, strict=True)]
        axes.fill_between(range(len(mean)), low, high, color=ACCENT, alpha=0.15, linewidth=0)
        axes.plot(mean, "o-", color=ACCENT, markersize=4)
        if test:
            known = _percent([*(entry["test_waf"] for entry in rounds), test["waf"]])
            axes.plot(known, "o-", color=SECOND, markersize=4)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("round")

    return _chart(draw, "WAF of each round, %")


def _percent(fractions: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100 * value for value in fractions]


def _chart(draw: "Callable[[Axes], None]", label: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": label}):
        figure = Figure(figsize=(4.4, 2.5), layout="constrained")
        axes = figure.add_subplot()
        axes.locator_params(axis="y", nbins=5)
        draw(axes)
        axes.set_title(label, loc="left", fontsize=9.5, color=SOFT)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every chart; an id is unique in a page
    for stand_in, name in VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
