"""A CPU's cores as devices for fusion; simulated devices stay what they are."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax
from mer_jax.devices import encoder_devices, split_cores
split_cores()
print(len(jax.local_devices()), len(encoder_devices()))
"""


@pytest.mark.parametrize(
    ("flags", "found"),
    [("", [min(os.cpu_count() or 1, 8), 1]), ("--xla_force_host_platform_device_count=3", [3, 3])],
)
def test_fusion_gets_the_cores_and_an_encoder_one_device(flags, found):
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [int(word) for word in done.stdout.split()] == found
