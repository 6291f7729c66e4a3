"""The accelerators that programs are compiled for, none of which has to be there: what they can do, and their slices.

Peaks, memory and links as their makers publish them: cloud.google.com/tpu/docs (v5e, v5p, v6e; both ways of all four,
six or four links of a chip together make 400, 1200 or 800 GB/s) and NVIDIA's data sheets, of the SXM cards and without
sparsity. `targets` holds what XLA's compiler has to know of a GPU.
"""

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental import topologies

from mer_jax.runtime.errors import UsageError

TARGETS = Path(__file__).parent / "targets"


@dataclass(frozen=True)
class Chip:
    """One accelerator."""

    peak: float  # bfloat16 FLOP/s
    bandwidth: float  # bytes/s of its memory
    memory: float  # bytes
    link: float  # bytes/s that one of its links to other chips takes in: TPUs have two for each side of a slice


@dataclass(frozen=True)
class Tpu(Chip):
    accelerator: str  # TPU_ACCELERATOR_TYPE without the number of cores
    clock: float  # Hz: the peak divided by what its matrix units do in a cycle
    cores: int = 1  # that share the steps of a kernel


@dataclass(frozen=True)
class Gpu(Chip):
    fused_attention: bool  # cuDNN's is what a program should hold


CHIPS: dict[str, Chip] = {
    "v5e": Tpu(197e12, 819e9, 16e9, 50e9, "v5litepod", 1.5e9),
    "v5p": Tpu(459e12, 2765e9, 95e9, 100e9, "v5p", 1.75e9, 2),
    "v6e": Tpu(918e12, 1640e9, 32e9, 100e9, "v6e", 1.75e9),
    "a100": Gpu(312e12, 2039e9, 80e9, 300e9, False),
    "h100": Gpu(989e12, 3352e9, 80e9, 450e9, True),
    "h200": Gpu(989e12, 4800e9, 141e9, 450e9, True),
    "b200": Gpu(2250e12, 7672e9, 180e9, 900e9, True),
}
KNOWN = "expected " + ", ".join(
    f"{name}:SHAPE (as 2x4)" if isinstance(chip, Tpu) else f"{name} or {name}:COUNT" for name, chip in CHIPS.items()
)


@dataclass(frozen=True)
class Slice:
    """Chips of one kind that are connected."""

    name: str
    chip: Chip
    devices: np.ndarray  # of jax.Device
    sides: tuple[int, ...]  # of the grid that its chips form

    @property
    def inflow(self) -> float:
        """Bytes/s that the chip with the fewest links, one at a corner, takes in from the others."""
        return self.chip.link * max(1, sum(side > 1 for side in self.sides))


def open_slice(name: str) -> Slice:
    """A slice as --slice names it: v5e:2x4, h100, h100:8.

    Raises:
        UsageError: no such chip or shape, or the compiler for it is not installed.
    """
    kind, _, shape = name.partition(":")
    chip = CHIPS.get(kind)
    sides = tuple(map(int, shape.split("x"))) if re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape) else ()
    if isinstance(chip, Tpu) and len(sides) > 1:
        _needs("libtpu", name, "pip install libtpu")
        os.environ["TPU_ACCELERATOR_TYPE"] = f"{chip.accelerator}-{prod(sides)}"
        arguments: dict[str, Any] = {"topology_name": name}
    elif isinstance(chip, Gpu) and len(sides) <= 1 and (sides or not shape):
        sides = sides or (1,)
        _needs("jax_plugins.xla_cuda13", name, 'pip install "jax[cuda13]"')
        target = (TARGETS / f"{kind}.txtpb").read_text()
        arguments = {"target_config": target, "topology": f"1x1x{sides[0]}"}
    else:
        raise UsageError(f"--slice={name}: {KNOWN}")
    try:
        topology = topologies.get_topology_desc(platform="tpu" if isinstance(chip, Tpu) else "cuda", **arguments)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--slice={name}: the compiler does not know this slice ({reason})") from error
    return Slice(name, chip, np.array(topology.devices), sides)


def _needs(package: str, name: str, command: str) -> None:
    """Raises UsageError where a compiler is not installed."""
    try:
        installed = find_spec(package)
    except ModuleNotFoundError:  # nor its parent package
        installed = None
    if installed is None:
        raise UsageError(f"--slice={name}: the compiler for it is not installed; {command}")
