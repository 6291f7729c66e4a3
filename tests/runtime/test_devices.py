"""How trainings are laid out over devices: on eight simulated ones, in a process of its own."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, NamedSharding, PartitionSpec

from mer_jax.defaults import OVER_DEVICES
from mer_jax.runtime.devices import device_of, local_mesh, map_trials, map_trials_on_cores
from mer_jax.runtime.errors import UsageError

RUNS = {"x": np.arange(14.0).reshape(7, 2), "y": np.arange(7)}


def scaled_sum(run, factor):
    """[2], [] -> {sum: [], twice: [2]}"""
    return {"sum": run["x"].sum() * factor + run["y"], "twice": 2 * run["x"]}


def check(mapped):
    out = mapped(RUNS, 10.0)
    np.testing.assert_array_equal(out["sum"], [10 * (4 * run + 1) + run for run in range(7)])
    np.testing.assert_array_equal(out["twice"], 2 * RUNS["x"])


@pytest.mark.parametrize("over_devices", OVER_DEVICES)
@pytest.mark.parametrize("side_by_side", [None, 1, 2, 3, 9])
def test_runs_that_share_a_device_in_groups_of_any_size(side_by_side, over_devices):
    check(map_trials(scaled_sum, jax.devices()[:1], side_by_side, over_devices))


def test_where_an_array_is():
    """By its mesh, also through what is computed from it and where its devices are not here; else by default."""
    mesh = AbstractMesh((1,), ("data",), abstract_device=AbstractDevice("NVIDIA H100 PCIe", None, "gpu"))
    there = jax.ShapeDtypeStruct((2, 3), np.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    devices = []

    def note(x):
        devices.append(device_of(x))
        return x

    jax.eval_shape(lambda x: jax.lax.map(jax.vmap(note), (x @ x.T)[None]), there)
    jax.pmap(note)(np.zeros((1, 2)))
    jax.jit(note)(np.zeros(2))
    with jax.default_device("cpu"):
        note(np.zeros(2))
    with jax.default_device(jax.devices()[0]):
        note(np.zeros(2))
    assert [device.platform for device in devices] == ["gpu", *["cpu"] * 4]
    assert devices[0].device_kind == "NVIDIA H100 PCIe"


def test_a_thread_for_each_core():
    check(map_trials_on_cores(scaled_sum))


EIGHT = """
import jax
from mer_jax.defaults import OVER_DEVICES
from mer_jax.runtime.devices import local_mesh, map_trials
from tests.runtime.test_devices import check, scaled_sum
devices = jax.devices()
for count in (1, 2, 3, 8):
    for side_by_side in (None, 2):
        for over_devices in OVER_DEVICES:
            check(map_trials(scaled_sum, devices[:count], side_by_side, over_devices))
mesh = local_mesh(2)
assert dict(mesh.shape) == {"data": 4, "model": 2}
assert mesh.devices.tolist() == [[devices[i], devices[i + 1]] for i in (0, 2, 4, 6)]
"""


def test_eight_devices():
    """Devices that share one copy of the weights are neighbours."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", EIGHT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_devices_that_do_not_divide():
    with pytest.raises(UsageError, match="model_parallel=1000 does not divide"):
        local_mesh(1000)
