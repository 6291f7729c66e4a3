"""An html page from the metrics of a run: no script, nothing fetched, the same bytes twice."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from mer_jax.report import figures, formats, tables
from mer_jax.report.schema import Fold, FoldCurves, Metrics
from mer_jax.report.templates import environment
from mer_jax.runtime.files import write_whole

FILES = (  # beside the page, and of the run
    *("clips.html", "../metrics.json", "../predictions/test.csv", "../predictions/test_probs.csv"),
    *("../predictions/unlabeled.csv", "../predictions/unlabeled_probs.csv", "../transcripts.csv", "../rankings.csv"),
    *("../folds.csv", "../config.json"),
)
_FILTERS = (formats.percent, formats.number, formats.clips, formats.duration, formats.listing)


def write_report(metrics: Metrics, path: str | Path) -> None:
    """Writes the page to `path`. `metrics`, laid out as in `schema`, may come from `metrics.json`.

    The strips of `metrics["video"]` are read from `frames/` beside the page.
    """
    path = Path(path)
    with write_whole(path) as file:
        file.write(render(metrics, path.parent))


def render(metrics: Metrics, folder: Path = Path()) -> str:
    """The page as html; `folder` is where it will lie, with the pictures, and the run's files around it."""
    pages = environment()
    pages.filters["base64"] = lambda name: b64encode((folder / name).read_bytes()).decode()
    pages.filters |= {f.__name__: f for f in _FILTERS}
    of_formats = (formats.spread, formats.points, formats.interval, formats.by_shown)
    pages.globals |= {f.__name__: f for f in (*of_formats, tables.most_alike)}
    every_key = cast(Metrics, dict.fromkeys(Metrics.__annotations__) | metrics)
    ranking, votes = every_key["ranking"], every_key["votes"]
    return pages.get_template("report.html").render(
        every_key,
        files=[name for name in FILES if (folder / name).exists()],
        charts=_charts(every_key),
        added=sum(sum(entry["added"].values()) for entry in metrics.get("rounds") or []),
        subsets=tables.subsets_best_first(metrics),
        faces_and_frames=next(iter(tables.trained_on(metrics, "image", "video")), None),
        best_single=tables.best_single(metrics),
        problem_groups=tables.problem_groups(metrics.get("problems") or []),
        alone=formats.networks_alone(metrics),
        vote_problems=tables.problem_groups(votes["problems"]) if votes else [],
        ranking_failures=tables.problem_groups(ranking["failures"]) if ranking else [],
        text_rows=tables.trained_on(metrics, "text"),
        table_1=tables.table_1(metrics),
        table_2=tables.table_2(metrics),
    )


def _charts(metrics: Metrics) -> dict[str, list[str]]:
    """Section -> SVGs; a section without data has none."""
    curves, rounds = metrics["curves"] or {}, metrics["rounds"]
    return {
        "fusion": _fold_charts("Fusion", curves.get("fusion"), metrics["folds"] or ()),
        "tune": _fold_charts("EmoVCLIP", curves.get("tune")),
        "rounds": [figures.round_chart(rounds, metrics["cv"], metrics["test"])] if rounds else [],
    }


def _fold_charts(name: str, curves: FoldCurves | None, folds: Sequence[Fold] = ()) -> list[str]:
    if not curves:
        return []
    waf = [[100 * value for value in fold] for fold in curves["waf"]]
    best = [epoch for fold in folds for epoch in fold["best_epochs"]]
    return [
        figures.fold_chart(curves["loss"], f"{name}: training loss"),
        figures.fold_chart(waf, f"{name}: validation WAF, %", best),
    ]
