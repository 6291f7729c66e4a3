"""What a person sees while a stage runs: a bar at a terminal, a plain line now and then elsewhere."""

import sys

from tqdm import tqdm

from mer_jax.runtime.terminal import harmless, terminal


def progress(stage: str, total: int, unit: str) -> tqdm:
    """A tqdm bar (a context, `.update(n)`) with rate and time left, on standard error."""
    stream = terminal()
    return tqdm(
        total=total,
        desc=f"  {harmless(stage)}",
        unit=unit,
        dynamic_ncols=True,
        file=stream or PlainLines(),
        mininterval=0.1 if stream else 10.0,  # seconds
        ascii=not stream,
    )


class PlainLines:
    """Turns tqdm's redrawn line into one line each, for logs."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        """tqdm calls it after each write; lines are flushed as they are printed."""
