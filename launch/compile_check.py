"""Compiles the real-size programs for TPU slices, without a TPU, and says whether they fit and how fast they can be.

    pip install libtpu
    python -m launch.compile_check [--slice=v5e:2x4 --slice=v6e:2x4] [--program=fusion]
        [--config.encoders.image.batch_frames=512]

Batch sizes are the config's. XLA counts the body of a loop once, so the scanned layers are compiled by themselves
and added as often as they run. FLOPs and bytes are of one device; the roofline time is the larger of FLOPs / peak and
bytes / bandwidth. XLA counts bytes that stay on the chip as well, so the roofline can be the longer of the two times:
"XLA ms" adds up the cycles that the compiler expects of each operation, one after the other. Where that is under 60 %
of the peak, the cycles follow by kind with the costliest operations. A program that does not fit names its knob.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the host computes nothing
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu is not on a TPU machine
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is used, so checks may run side by side

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies
from ml_collections import config_flags

from launch.listing import costliest, kinds_of
from launch.programs import Program, all_programs
from mer_jax.runtime import cli
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings

CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/semi.py:mer2024,root=unread", "Config file whose batch sizes are checked."
)
SLICES = flags.DEFINE_multi_string("slice", ["v5e:2x4", "v5p:2x2x1", "v6e:2x4"], "Generation and shape of a slice.")
OPS = flags.DEFINE_integer("ops", 3, "How many of the costliest operations to list under a slow program.")
PROGRAMS = flags.DEFINE_multi_string("program", [], "Only programs whose name contains this.")


@dataclass(frozen=True)
class Chip:
    """One chip of a TPU generation: peak, bandwidth and memory as published, the clock inferred from the peak."""

    accelerator: str  # TPU_ACCELERATOR_TYPE without the number of cores
    peak: float  # bf16 FLOP/s
    bandwidth: float  # bytes/s of HBM
    memory: float  # bytes of HBM
    clock: float  # Hz: the peak divided by what its matrix units do in a cycle


CHIPS = {
    "v5e": Chip("v5litepod", 197e12, 819e9, 16e9, 1.5e9),
    "v5p": Chip("v5p", 459e12, 2765e9, 95e9, 1.75e9),
    "v6e": Chip("v6e", 918e12, 1640e9, 32e9, 1.75e9),
}
SLOW = 0.6  # of the peak
COLLECTIVES = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
COLUMNS = (
    *("program", "fits", "GB/device", "TFLOP", "/ analytic", "GB moved", "FLOP/B", "roofline ms", "of peak", "clips/s"),
    *("XLA ms", "of peak", "collectives"),
)


@dataclass(frozen=True)
class Cost:
    """XLA's estimate for one device."""

    flops: float
    bytes_moved: float
    operations: Sequence[tuple[float, str]]  # cycles and what they are for; none where the listing is not readable

    @classmethod
    def of(cls, executable: Any) -> "Cost":
        analysis = executable.cost_analysis()
        return cls(analysis["flops"], analysis["bytes accessed"], costliest(listing(executable)))

    @property
    def cycles(self) -> float:
        return sum(cycles for cycles, _ in self.operations)

    def plus(self, other: "Cost", times: float) -> "Cost":
        """This and `times` the other."""
        more = [(times * cycles, what) for cycles, what in other.operations]
        return Cost(
            self.flops + times * other.flops,
            self.bytes_moved + times * other.bytes_moved,
            [*self.operations, *more] if self.operations and more else [],
        )


def listing(executable: Any) -> str:
    """The compiled program's operations; empty where XLA cannot read them back from libtpu (seen on v5p and v6e)."""
    try:
        return executable.as_text()
    except jax.errors.JaxRuntimeError:
        return ""


def compiled(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """The executable for the devices that the arguments' shardings name."""
    return jax.jit(function).lower(*arguments).compile()


def check(program: Program, chip: Chip) -> tuple[list[str], list[str]]:
    """One row of the table, and lines on where a slow program's cycles go."""
    try:
        executable = compiled(program.function, program.arguments)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"(?:Used |\()(\S+?)\)? (?:of|exceeds available HBM) \(?([\d.]+\w)", str(error))
        needs = f"needs {used[1]} of {used[2]}" if used else "out of memory"
        return [program.name, f"NO: lower {program.knob}", needs], []
    cost = Cost.of(executable)
    for loop in program.loops:
        if loop.repeats:
            cost = cost.plus(Cost.of(compiled(loop.function, loop.arguments)), loop.repeats)
    held = bytes_held(executable)
    roofline = max(cost.flops / chip.peak, cost.bytes_moved / chip.bandwidth)
    row = [
        program.name,
        "yes" if held <= chip.memory else f"NO: lower {program.knob}",
        f"{held / 1e9:.2f} of {chip.memory / 1e9:.0f}",
        f"{cost.flops / 1e12:.3f}",
        f"{cost.flops / program.flops:.2f}",
        f"{cost.bytes_moved / 1e9:.1f}",
        f"{cost.flops / cost.bytes_moved:.0f}",
        f"{roofline * 1e3:.2f}",
        f"{cost.flops / roofline / chip.peak:.0%}",
        f"{program.clips / roofline:,.0f}",
    ]
    if not cost.operations:
        return [*row, "?", "?", "not readable"], []
    seconds = cost.cycles / chip.clock
    of_peak = cost.flops / seconds / chip.peak
    collectives = Counter(COLLECTIVES.findall(listing(executable)))
    row += [
        f"{seconds * 1e3:.2f}",
        f"{of_peak:.0%}",
        ", ".join(f"{count} {name}" for name, count in sorted(collectives.items())) or "none",
    ]
    return row, where_cycles_go(cost) if of_peak < SLOW else []


def bytes_held(executable: Any) -> int:
    """Of one device's memory, while the program runs."""
    memory = executable.memory_analysis()
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return arrays + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def where_cycles_go(cost: Cost) -> list[str]:
    """Shares by kind in one line, then the costliest operations in one each."""
    kinds = kinds_of(cost.operations)
    shares = sorted(((cycles / cost.cycles, kind) for kind, cycles in kinds.items()), reverse=True)
    lines = ["    cycles: " + ", ".join(f"{share:.0%} {kind}" for share, kind in shares)]
    for cycles, what in sorted(cost.operations, reverse=True)[: OPS.value]:
        lines.append(f"    {cycles / cost.cycles:4.0%} {what}")
    return lines


def main() -> None:
    """The command: one table per slice."""
    for name in SLICES.value:
        generation, _, shape = name.partition(":")
        if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
            raise UsageError(f"--slice={name}: expected GENERATION:SHAPE, of {', '.join(CHIPS)}, such as v5e:2x4")
        chip = CHIPS[generation]
        count = int(np.prod([int(side) for side in shape.split("x")]))
        os.environ["TPU_ACCELERATOR_TYPE"] = f"{chip.accelerator}-{count}"
        try:
            devices: Any = np.array(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{name}: libtpu is not installed, or does not know the slice ({error})") from error
        print(f"\n{name}: {devices.size} x {devices[0].device_kind}")
        print(" | ".join(COLUMNS), flush=True)
        for program in all_programs(read_settings(Settings, CONFIG.value), devices):
            if not PROGRAMS.value or any(part in program.name for part in PROGRAMS.value):
                row, operations = check(program, chip)
                print("\n".join([" | ".join(row), *operations]), flush=True)


if __name__ == "__main__":
    cli.run(main)
