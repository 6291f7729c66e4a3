"""Which devices do what: fusion's runs want many, and an encoder wants few copies of its weights.

A CPU is one JAX device by default, whose cores share every operation. Many small trainings are faster with a core
each.
"""

import os

import jax

MOST_CORES = 8  # each holds the labelled clips' features


def split_cores() -> None:
    """Makes cores of a CPU devices, unless XLA_FLAGS simulates some. To be called before JAX computes."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", min(os.cpu_count() or 1, MOST_CORES))


def encoder_devices() -> list[jax.Device]:
    """The local devices that encoders are spread over; of a CPU's cores the first, which has the others help."""
    devices = jax.local_devices()
    cores = devices[0].platform == "cpu" and jax.config.values["jax_num_cpu_devices"] > 0
    return devices[:1] if cores else devices
