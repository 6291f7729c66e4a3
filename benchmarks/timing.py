"""Timing of rivals in one run, alternating, and the table that shows it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def seconds_of(call: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def alternate(rivals: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, one of every rival in turn, after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for repeat in range(repeats + 1):
        for name, call in rivals.items():
            elapsed = seconds_of(call)
            if repeat:
                seconds[name].append(elapsed)
    return seconds


def ratio(ours: Sequence[float], peers: Sequence[float]) -> dict[str, float]:
    """How many times as fast as the peer, of seconds round by round: three columns of a row."""
    ratios = [peer / our for our, peer in zip(ours, peers, strict=True)]
    return {"ratio": round(median(ratios), 2), "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2)}


def matrix_products(size: int = 2048) -> tuple[float, dict[str, Callable[[], Any]]]:
    """FLOPs of a float32 product of two square matrices, and the rivals that compute it."""
    import torch  # tables are shown without it, too

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), np.float32) for _ in range(2))
    product, x, y = jax.jit(jnp.matmul), jnp.asarray(a), jnp.asarray(b)
    tensors = torch.tensor(a), torch.tensor(b)
    return 2.0 * size**3, {"product, XLA": lambda: product(x, y), "product, torch": lambda: torch.matmul(*tensors)}


def against_peak(rivals: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of the rivals, and the peak: the median rate of the faster plain product, in turn with them, FLOP/s."""
    flops, products = matrix_products()
    seconds = alternate({**rivals, **products}, repeats)
    return seconds, flops / min(median(seconds[name]) for name in products)


def show(rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """A table of the rows, and the same as one JSON line."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *[[str(row.get(column, "")) for column in columns] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(json.dumps({**more, "rows": list(rows)}), flush=True)
