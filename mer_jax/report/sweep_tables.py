"""A sweep's scores as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from mer_jax.report.formats import MISSING, spread

SCORES = {"cv": "cross-validated", "challenge": "as the challenge counts", "test": "test"}


def markdown(entries: list[dict[str, Any]]) -> str:
    """The rows as a table, and one of the subsets where they were scored."""
    lines = [
        "WAF in %, mean ± standard deviation over seeds; the paper's columns are the paper's, on MER2024.",
        "Cross-validated: held-out clips had no say in pseudo-labels and epochs. As the challenge counts: the epoch is",
        "the best by the held-out clips. Rows differ by chance, too: the best of many scores less on other clips.",
        "",
    ]
    compared = any(entry["paper"] for entry in entries)
    heads = ["", *SCORES.values()] + ["paper, train & val", "paper, test"] * compared
    body = []
    for entry in entries:
        name = entry["name"] + f" (diverged: {entry['divergence']})" * bool(entry["divergence"])
        scores = [spread(entry[f"{kind}_waf"], entry[f"{kind}_std"]) for kind in SCORES]
        body.append([name, *scores, *(entry["paper"] or [MISSING, MISSING]) * compared])
    lines += grid(heads, body)
    scored = [entry for entry in entries if "subsets" in entry]
    if scored:
        widest = max((list(entry["subsets"]) for entry in scored), key=len)
        lines += ["", "Test WAF (cross-validated without test labels) with only these modalities present:", ""]
        lines += grid(
            ["", *(entry["name"] for entry in scored)],
            [[subset, *(subset_cell(entry["subsets"].get(subset)) for entry in scored)] for subset in widest],
        )
    return "\n".join(lines) + "\n"


def subset_cell(scores: Mapping[str, float | None] | None) -> str:
    if scores is None:
        return MISSING
    split = "cv" if scores["test_waf"] is None else "test"
    return spread(scores[f"{split}_waf"], scores[f"{split}_std"])


def grid(heads: list[str], body: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *body)]


def top_markdown(entries: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, Any]]) -> str:
    """Sets of streams, and what choosing among them is worth."""
    lines = [
        "WAF in %, mean ± standard deviation over seeds, cross-validated: held-out clips had no say in the epochs.",
        "The best of these scores less on other clips: it is chosen by this very score.",
        "",
    ]
    rows = [entry for entry in entries if entry["is"]]
    body = [
        [each["name"], each["is"], *(spread(each[f"{key}_waf"], each[f"{key}_std"]) for key in SCORES)] for each in rows
    ]
    lines += grid(["streams", "which are the", *SCORES.values()], body)
    lines += [
        "",
        "What a choice is worth: a fold's held-out clips are scored by the set that networks which have not seen them",
        "choose by the clips of the other folds.",
        "",
    ]
    chosen = [
        [
            each["name"],
            spread(each["cv_waf"], each["cv_std"]),
            each["chosen"],
            ", ".join(dict.fromkeys(each["by_fold"])),
        ]
        for each in choices
    ]
    lines += grid(["", SCORES["cv"], "all folds choose", "without one, they choose"], chosen)
    return "\n".join(lines) + "\n"
