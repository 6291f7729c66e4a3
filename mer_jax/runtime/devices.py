"""How work meets the devices: programs with frozen weights, and independent trainings side by side."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from mer_jax.defaults import OVER_DEVICES
from mer_jax.runtime.errors import UsageError


def by_pmap(function: Callable[..., Any], devices: Sequence[jax.Device], num_shared: int) -> Callable[..., Any]:
    """`function(own, *shared)` on each device; `own` is its part of the first argument, along the leading axis."""
    return jax.pmap(function, in_axes=(0, *(None,) * num_shared), devices=devices)


def by_shard_map(function: Callable[..., Any], devices: Sequence[jax.Device], num_shared: int) -> Callable[..., Any]:
    """`by_pmap`, bit for bit, without pmap."""

    def on_device(part: Any, *shared: Any) -> Any:
        out = function(jax.tree.map(lambda x: x[0], part), *shared)
        return jax.tree.map(lambda x: x[None], out)

    own, whole = PartitionSpec("devices"), (PartitionSpec(),) * num_shared
    mesh = Mesh(np.array(devices), ("devices",))
    return jax.shard_map(on_device, mesh=mesh, in_specs=(own, *whole), out_specs=own, check_vma=False)


# Without pmap in JAX, which only maintains it, its name goes, here and in `OVER_DEVICES`, whose first is the default.
BY_NAME = {"pmap": by_pmap, "shard_map": by_shard_map}


def map_trials(
    function: Callable[..., Any],
    devices: Sequence[jax.Device] | None = None,
    side_by_side: int | None = None,
    over_devices: str = OVER_DEVICES[0],
) -> Callable[..., Any]:
    """A compiled function of (trials, *shared): `function(trial, *shared)` over the leading axis of every array.

    It is `jax.pmap`, or `jax.shard_map`, over devices of `jax.vmap` over the trials that share one. Where the trials do
    not divide evenly, the last one is repeated and the copies thrown away; groups of nothing but copies are not
    computed.

    Args:
        devices: default all local ones.
        side_by_side: the most trials of a device that are computed at once, one group after the other; default all.
        over_devices: one of `OVER_DEVICES`.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)

    @jax.jit
    def mapped(trials: Any, *shared: Any) -> Any:
        count = jax.tree.leaves(trials)[0].shape[0]
        per_device = -(-count // len(devices))
        groups = -(-per_device // (side_by_side or per_device))
        shape = (len(devices), groups, -(-per_device // groups))
        slots = jnp.arange(shape[0] * shape[1] * shape[2])
        placed = jax.tree.map(lambda x: x[jnp.minimum(slots, count - 1)].reshape(*shape, *x.shape[1:]), trials)
        real = slots.reshape(shape)[..., 0] < count
        group = jax.jit(jax.vmap(function, in_axes=(0, *(None,) * len(shared))))  # jit: traced once, though used twice

        def on_device(slots: tuple[Any, jax.Array], *shared: Any) -> Any:
            def compute(trials: Any) -> Any:
                return group(trials, *shared)

            def skip(trials: Any) -> Any:
                return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute, trials))

            return jax.lax.map(lambda slot: jax.lax.cond(slot[1], compute, skip, slot[0]), slots)

        out = BY_NAME[over_devices](on_device, devices, len(shared))((placed, real), *shared)
        return jax.tree.map(lambda x: x.reshape(slots.size, *x.shape[3:])[:count], out)

    return mapped


def map_trials_on_cores(function: Callable[..., Any]) -> Callable[..., Any]:
    """`map_trials` for a CPU, which is one device of several cores: a thread for each, one trial after the other.

    What a core leaves idle, the others' operations use: five folds of the paper's widths take 0.8 of the time of
    `map_trials` on two cores (0.77 to 0.84). Outputs are on the host.
    """
    compiled = jax.jit(function)

    def mapped(trials: Any, *shared: Any) -> Any:
        count = len(jax.tree.leaves(trials)[0])
        each = [jax.tree.map(lambda x, i=i: x[i], trials) for i in range(count)]
        with ThreadPoolExecutor(os.cpu_count()) as cores:
            outputs = list(cores.map(lambda trial: jax.device_get(compiled(trial, *shared)), each))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)

    return mapped


def local_mesh(model_parallel: int = 1) -> Mesh:
    """The local devices as ("data", "model"): batches are split over the one, large weights over the other.

    Raises UsageError where `model_parallel` does not divide their number.
    """
    devices = np.array(jax.local_devices())
    if devices.size % model_parallel:
        raise UsageError(f"model_parallel={model_parallel} does not divide the {devices.size} local devices")
    return Mesh(devices.reshape(-1, model_parallel), ("data", "model"))


def device_of(x: jax.Array) -> Any:
    """`platform` and `device_kind` of where `x` is, or will be when the program runs that is being traced.

    The mesh that `x` is split over tells, so that a program may be compiled for devices that are not here; without a
    mesh it is the default device.
    """
    device = jax.typeof(x).sharding.mesh.abstract_device
    if device is None:
        config: Any = jax.config  # whose options mypy does not know
        device = config.jax_default_device
        if device is None or isinstance(device, str):
            device = jax.local_devices(backend=device)[0]
    return device


def shards(x: jax.Array, axis: str) -> int:
    """Over how many devices the program that is being traced splits what goes along an axis of the mesh of `x`."""
    return dict(jax.typeof(x).sharding.mesh.shape).get(axis, 1)


def frozen_program(model: nnx.Module, function: Callable[..., Any]) -> Callable[..., Any]:
    """jit of function(model, *arrays), the weights passed as an argument, not as constants."""
    graphdef, state = nnx.split(model)
    program = jax.jit(lambda state, *arrays: function(nnx.merge(graphdef, state), *arrays))
    return partial(program, state)


def device_bytes() -> int:
    """Memory of a local device, as much of it as JAX may take; of a CPU the machine's, or the container's."""
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        return int(stats["bytes_limit"])
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return physical
