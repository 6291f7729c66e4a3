"""How numbers are written in the report and at the terminal, and a run's last lines. A missing number is an en dash."""

from pathlib import Path

from mer_jax.report.schema import Metrics

MISSING = "–"


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.8432 -> "84.3" (the unit stands in the heading)."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}"


def spread(mean: float | None, std: float | None) -> str:
    """Mean and standard deviation in percent: "83.2 ± 1.1"."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def points(after: float | None, before: float | None) -> str:
    """The difference of two fractions in percentage points, always signed: "+1.2", "−0.4", "0.0"."""
    if after is None or before is None:
        return MISSING
    difference = round(100 * (after - before), 1)
    sign = "+" if difference > 0 else "−" if difference < 0 else ""
    return f"{sign}{abs(difference):.1f}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a true minus sign."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """12.34 -> "12.3 s", 83 -> "1 min 23 s", 7500 -> "2 h 05 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def listing(words: list[str]) -> str:
    """["speech", "image", "text"] -> "speech, image and text"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


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
