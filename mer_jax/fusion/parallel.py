"""Independent runs side by side: over devices, and over the runs that share one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def map_runs(
    function: Callable[..., Any], devices: Sequence[jax.Device] | None = None, side_by_side: int | None = None
) -> Callable[..., Any]:
    """Maps `function(run, *shared)` over the leading axis of every array in `run`; all get the same `shared`.

    Returns a compiled function of (runs, *shared) whose outputs carry the runs axis first. It is `jax.pmap`
    over `devices` (default: all local ones) of `jax.vmap` over the runs that share a device: all of them, or
    groups of at most `side_by_side`, one group after the other. Where the runs do not divide evenly, the last
    one is repeated and the copies thrown away.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)

    @jax.jit
    def mapped(runs, *shared):
        count = jax.tree.leaves(runs)[0].shape[0]
        per_device = -(-count // len(devices))
        groups = -(-per_device // (side_by_side or per_device))
        shape = (len(devices), groups, -(-per_device // groups))
        slots = jnp.minimum(jnp.arange(shape[0] * shape[1] * shape[2]), count - 1)
        placed = jax.tree.map(lambda x: x[slots].reshape(*shape, *x.shape[1:]), runs)
        shared_axes = (None,) * len(shared)
        group = jax.vmap(function, in_axes=(0, *shared_axes))

        def on_device(placed, *shared):
            return jax.lax.map(lambda runs: group(runs, *shared), placed)

        out = jax.pmap(on_device, in_axes=(0, *shared_axes), devices=devices)(placed, *shared)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:])[:count], out)

    return mapped
