"""What the report derives from the metrics: orders, groups, and the paper's experiments matched with ours."""

from collections import defaultdict
from typing import NamedTuple

from mer_jax.report import paper
from mer_jax.report.schema import Ablation, Metrics, Problem, SingleModality, Streams, Subset


class ProblemGroup(NamedTuple):
    reason: str
    modality: str | None
    clips: int
    names: dict[str, list[str]]  # split -> clips


class Alike(NamedTuple):
    stream: str
    correlation: float


class Comparison(NamedTuple):
    paper: paper.Row
    ours: SingleModality | Ablation | None


def subsets_best_first(metrics: Metrics) -> list[Subset]:
    """By test WAF, without test labels by cross-validated WAF."""
    return sorted(metrics.get("modality_subsets") or [], key=_score, reverse=True)


def best_single(metrics: Metrics) -> SingleModality | None:
    """The strongest model trained on one modality, by test WAF where known."""
    singles = [entry for entry in metrics.get("single_modality") or [] if len(entry["modalities"]) == 1]
    return max(singles, key=_score, default=None)


def trained_on(metrics: Metrics, *modalities: str) -> list[SingleModality]:
    """The models trained on exactly these modalities; two of text alone: with rankings, and without."""
    return [entry for entry in metrics.get("single_modality") or [] if tuple(entry["modalities"]) == modalities]


def _score(entry: Subset) -> float:
    return next((waf for waf in (entry["test_waf"], entry["cv_waf"]) if waf is not None), 0.0)


def most_alike(streams: Streams, stream: str) -> Alike | None:
    """The stream whose models are right and wrong most like those of another; None where that is not known."""
    others = {name: each for name, each in streams["correlation"].get(stream, {}).items() if each is not None}
    return max((Alike(*item) for item in others.items()), key=lambda alike: alike.correlation, default=None)


def problem_groups(problems: list[Problem]) -> list[ProblemGroup]:
    """One group per reason and modality, the most frequent first."""
    groups: dict[tuple[str, str | None], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for problem in problems:
        groups[problem["reason"], problem["modality"]][problem["split"]].append(problem["name"])
    merged = [
        ProblemGroup(reason, modality, sum(map(len, names.values())), dict(names))
        for (reason, modality), names in groups.items()
    ]
    return sorted(merged, key=lambda group: -group.clips)


def table_1(metrics: Metrics) -> dict[str, list[Comparison]]:
    """The paper's single-modality rows by section, each with our model trained on the same."""
    ours = {(tuple(entry["modalities"]), entry["ranking"]): entry for entry in metrics.get("single_modality") or []}
    return {
        section: [Comparison(row, ours.get((row.modalities, row.ranking))) for row in rows]
        for section, rows in paper.TABLE_1.items()
    }


def table_2(metrics: Metrics) -> list[Comparison]:
    """The paper's multimodal rows, each with our self-trained run of the same modalities and dropout."""
    ours = {
        (tuple(entry["modalities"]), entry["modality_dropout"]): entry
        for entry in metrics.get("ablations") or []
        if entry["self_training"]
    }
    return [Comparison(row, ours.get((row.modalities, row.modality_dropout))) for row in paper.TABLE_2]
