"""How numbers are written in the report and at the terminal, and a run's last lines. A missing number is an en dash."""

from collections.abc import Sequence
from pathlib import Path

from mer_jax.report.schema import CrossValidation, Metrics, Wafs
from mer_jax.runtime.terminal import harmless

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


def interval(bounds: Sequence[float] | None) -> str:
    """A 95 % interval in percent: "81.2 to 88.0"."""
    return MISSING if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a true minus sign."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def clips(count: float) -> str:
    """1200 -> "1,200"; a mean keeps one digit: "9.6"."""
    return f"{count:,.1f}".removesuffix(".0")


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


def by_shown(cv: CrossValidation) -> str:
    """The rest of the name of a cross-validated score: by which modalities, where these are not all."""
    return f", by {listing(cv['shown'])} alone" if "shown" in cv else ""


def networks_alone(metrics: Metrics) -> Wafs:
    """A run's scores without votes from outside."""
    if votes := metrics.get("votes"):
        return votes["networks_alone"]
    test = metrics.get("test")
    return {"cv_waf": metrics["cv"]["waf"], "test_waf": test["waf"] if test else None}


def headline(metrics: Metrics, report: str | Path) -> str:
    """A few aligned lines: the scores in percent, what fusion and self-training gave, where the report is."""
    cv, test, rounds = metrics["cv"], metrics.get("test"), metrics.get("rounds")
    lines = []
    if test:
        of_test = f"{percent(test['waf'])} %   final ensemble; 95 % interval {interval(test.get('interval'))}"
        lines.append(("test WAF", of_test))
    name = "cross-validated WAF" + by_shown(cv) + ", flattered" * cv.get("flattered", False)
    if "challenge" not in cv:  # a run of before
        name = "WAF as the challenge counts"
    of_folds = f"{spread(cv['waf'], cv['std'])} %   mean and spread over folds"
    lines.append((name, f"{of_folds}; 95 % interval {interval(cv.get('interval'))}"))
    if challenge := cv.get("challenge"):
        as_counted = f"{spread(challenge['waf'], challenge['std'])} %   the epoch is the best by the held-out clips"
        lines.append(("  as the challenge counts", as_counted))
    if everything := cv.get("all_modalities"):
        lines.append(
            ("  by all modalities", f"{spread(everything['waf'], everything['std'])} %   which the candidates lack")
        )
    lines += [("  note", caution) for caution in cv.get("cautions", [])]
    for entry in metrics.get("single_modality") or []:
        scores = f"{percent(entry['cv_waf'])} % cross-validated"
        if entry["test_waf"] is not None:
            scores = f"{percent(entry['test_waf'])} % test, {scores}"
        lines.append((f"  {entry['name']} alone", scores))
    alone = networks_alone(metrics)
    if votes := metrics.get("votes"):
        gain = f"{points(cv['waf'], alone['cv_waf'])} points cross-validated, by a weight of {number(votes['weight'])}"
        if test:
            gain = f"{points(test['waf'], alone['test_waf'])} points test, {gain}"
        lines.append(("votes from outside", gain))
    if rounds:
        gain = f"{points(alone['cv_waf'], rounds[0]['cv_waf'])} points cross-validated"
        if test:
            gain = f"{points(alone['test_waf'], rounds[0]['test_waf'])} points test, {gain}"
        lines.append(("self-training", gain))
    lines.append(("report", str(report)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(harmless(f"{name:<{width}}   {value}") for name, value in lines)
