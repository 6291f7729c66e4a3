"""What checksums, locks and the inventory cost a run.

    python -m benchmarks.guards [--labelled=600]

Seconds in the functions that write and check what is kept, of all threads added up, beside those of the whole run:
`mer_jax.train` on the bundled sample with the default settings, twice in one workdir, so that both writing and reading
count. Without a peer: the guards cannot be turned off.
"""

import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks.timing import show
from configs import semi
from mer_jax import train
from mer_jax.data import crops, dataset
from mer_jax.features.store import FeatureStore
from mer_jax.runtime import inventory, kept, lock
from mer_jax.runtime.run import Run
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings

LABELLED = flags.DEFINE_integer(
    "labelled", 600, "Clips of the sample; as many unlabelled ones, and half as many to test."
)

GUARDS: list[tuple[Any, str]] = [
    *((kept, name) for name in ("digest_of", "file_digests", "digests_in", "changed_in", "keep", "read_kept", "check")),
    *((inventory, name) for name in ("take_inventory", "changes")),
    *(
        (lock, "hold"),
        (crops, "is_cut"),
        (dataset, "check_unchanged"),
        (dataset, "is_written"),
        (FeatureStore, "_look_at"),
    ),
]
"""Where each of the functions stands."""

spent: defaultdict[str, float] = defaultdict(float)  # function -> seconds; only the outermost of nested ones count
inside = threading.local()


def timed(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Calls a guard, and counts its time."""
    if getattr(inside, "guard", False):
        return function(*arguments, **named)
    inside.guard, start = True, time.perf_counter()
    try:
        return function(*arguments, **named)
    finally:
        inside.guard = False
        spent[name] += time.perf_counter() - start


def watch() -> None:
    """Puts `timed` before every guard, in each module that has imported it."""
    modules = [module for name, module in sys.modules.items() if name.startswith("mer_jax.")]
    for place, name in GUARDS:
        function: Callable[..., Any] = getattr(place, name)
        if place is FeatureStore:
            setattr(place, name, lambda *arguments, n=name, f=function: timed(n, f, *arguments))
        for module in modules:
            if getattr(module, name, None) is function:
                setattr(module, name, partial(timed, name, function))


def main(_: list[str]) -> None:
    """The benchmark."""
    config = semi.get_config()
    config.data.labelled = config.data.unlabelled = LABELLED.value
    config.data.test = LABELLED.value // 2
    settings = read_settings(Settings, config)
    dataset.open_dataset(settings.variant, settings.data)  # writes the sample
    watch()
    rows = []
    with tempfile.TemporaryDirectory() as workdir:
        for start in ("from nothing", "again, with everything kept"):
            spent.clear()
            began = time.perf_counter()
            train.train(Run(Path(workdir), settings))
            seconds = time.perf_counter() - began
            guards = sum(spent.values())
            most = ", ".join(
                f"{name} {value:.2f}" for name, value in sorted(spent.items(), key=lambda item: -item[1])[:4]
            )
            rows.append({"start": start, "seconds": round(seconds, 1), "guards": round(guards, 2), "most": most})
            rows[-1]["share, %"] = round(100 * guards / seconds, 2)
            print(rows[-1], file=sys.stderr, flush=True)
    show(rows)


if __name__ == "__main__":
    app.run(main)
