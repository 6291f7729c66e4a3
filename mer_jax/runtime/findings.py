"""What can be known to go wrong, or is worth knowing, before any work: collected first, then told on one page."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.terminal import harmless


class Finding(NamedTuple):
    """One line of the page."""

    line: str
    stops: bool  # whether the work would fail by it

    def __str__(self) -> str:
        return harmless(f"{'error' if self.stops else 'note'}: {self.line}")


def findings_of(check: Callable[[], Iterable[str] | None]) -> Iterator[Finding]:
    """What a check says: the notes that it gives, and the error that it raises, by which the work would stop."""
    try:
        for note in check() or ():
            yield Finding(note, stops=False)
    except (DataError, UsageError) as error:
        yield Finding(" ".join(str(error).split()), stops=True)


def tell(findings: Sequence[Finding]) -> None:
    """Prints the page; one error alone is what is raised.

    Raises:
        DataError: the work would fail by any of the findings.
    """
    stopping = [finding for finding in findings if finding.stops]
    alone = len(stopping) == 1
    for finding in sorted(findings, key=lambda finding: not finding.stops):
        if not (alone and finding.stops):
            print(f"  {finding}", file=sys.stderr, flush=True)
    if stopping:
        raise DataError(stopping[0].line if alone else f"{len(stopping)} errors, listed above: nothing is begun")
