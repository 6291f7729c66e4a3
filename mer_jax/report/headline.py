"""The last lines of a run at the terminal."""

from pathlib import Path

from mer_jax.report.formats import percent, points, spread
from mer_jax.report.schema import Metrics


def headline(metrics: Metrics, report: str | Path) -> str:
    """A few aligned lines: the scores in percent, what fusion and self-training gave, where the report is."""
    cv, test, rounds = metrics["cv"], metrics.get("test"), metrics.get("rounds")
    lines = []
    if test:
        lines.append(("test WAF", f"{percent(test['waf'])} %   final ensemble"))
    lines.append(("cross-validated WAF", f"{spread(cv['waf'], cv['std'])} %   mean and spread over folds"))
    for entry in metrics.get("single_modality") or []:
        scores = f"{percent(entry['cv_waf'])} % cross-validated"
        if entry["test_waf"] is not None:
            scores = f"{percent(entry['test_waf'])} % test, {scores}"
        lines.append((f"  {entry['name']} alone", scores))
    if rounds:
        gain = f"{points(cv['waf'], rounds[0]['cv_waf'])} points cross-validated"
        if test:
            gain = f"{points(test['waf'], rounds[0]['test_waf'])} points test, {gain}"
        lines.append(("self-training", gain))
    lines.append(("report", str(report)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}   {value}" for name, value in lines)
