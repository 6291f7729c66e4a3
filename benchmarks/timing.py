"""What the benchmarks share: a clock, the machine's matrix-product rate, ratios with their spread."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def gemm_rate(size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a large square float32 matrix product: the faster library's best of some repeats."""
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    ours, theirs = jnp.asarray(a), torch.from_numpy(a)
    product = jax.jit(jnp.matmul)
    runs = (lambda: product(ours, ours).block_until_ready(), lambda: theirs @ theirs)
    for run in runs:
        run()
    return 2 * size**3 / min(seconds(run) for run in runs for _ in range(repeats))


def ratio(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Of paired times: median and extremes of theirs / ours."""
    values = np.asarray(theirs) / np.asarray(ours)
    return {"median": float(np.median(values)), "low": float(values.min()), "high": float(values.max())}


def show(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"
