"""Compiles the real-size programs for TPUs and NVIDIA GPUs that are not there: do they fit, and how fast can they be?

    pip install libtpu
    python -m launch.compile_check [--slice=v5e:2x4 --slice=v6e:2x4] [--program=fusion]
        [--config.encoders.image.batch_frames=512]
    pip install "jax[cuda13]"
    python -m launch.compile_check --slice=h100 [--slice=a100 --slice=h200 --slice=b200 --slice=h100:8]

Batch sizes are the config's, FLOPs those of the matrix products, counted by hand (benchmarks/work.py), and all figures
of one device but clips/s, which are the whole slice's. Loops count as often as they run.

On a TPU the time is what XLA expects of each operation (launch/tpu_time.py): differences between programs and settings
say more than the figures. Under each program stands of what XLA has no estimate; where it is under 60 % of the peak,
the time by kind of operation, and the costliest ones. On a GPU XLA expects nothing: there stand all FLOPs at the
peak, all arrays that kernels read and write at the memory's bandwidth, as if none of them stayed in a cache, and which
kernels there are (launch/gpu_kernels.py).

Exit code 1 where a program does not fit, or lacks cuDNN's fused attention on a card on which it should hold it.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import gettempdir
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the host computes nothing
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu is not on a TPU machine
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is used, so checks may run side by side

import jax
from absl import flags
from ml_collections import config_flags

from launch.devices import Gpu, Slice, open_slice
from launch.gpu_kernels import ATTENTION, bytes_moved, kernels
from launch.listing import Listing
from launch.programs import Program, all_programs
from launch.tpu_time import Estimate, estimate, kernel_name
from mer_jax.runtime import cli
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings

DUMPS = Path(gettempdir()) / f"compile_check-{os.getpid()}"  # what the compilers write of a program
# For libtpu when it is loaded: to write how many bundles of instructions its last pass leaves of each operation.
LIBTPU = f"--xla_jf_dump_to={DUMPS} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final_bundles"
SLOW = 0.6  # of the peak
TPU_NOTE = "XLA's estimates, good to about ten points of the peak either way"
GPU_NOTE = "peak and bandwidth alone, no estimates; on a card XLA tries other kernels for the products"
BOTH = ("program", "fits", "GB", "TFLOP", "ms at peak")
ON_TPU = (*BOTH, "XLA ms", "of peak", "clips/s", "on links ms", "collectives")
ON_GPU = (*BOTH, "GB moved", "ms to move", "clips/s by the longer", "kernels")


def check(program: Program, where: Slice, most: int) -> tuple[list[str], list[str], str]:
    """A row of the table, lines that belong under it, and what is wrong, or nothing. most: see `check_all`."""
    chip = where.chip
    try:
        executable, text, bundles = compiled(program)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"(?:Used |\()(\S+?)\)? (?:of|exceeds available HBM) \(?([\d.]+\w)", str(error))
        needs = f"needs {used[1]} of {used[2]}" if used else "out of memory"
        return [program.name, f"NO: lower {program.knob}", needs], [], "does not fit"
    held, at_peak = bytes_held(executable), program.flops / chip.peak
    fits = held <= chip.memory
    row = [
        program.name,
        "yes" if fits else f"NO: lower {program.knob}",
        f"{held / 1e9:.2f} of {chip.memory / 1e9:.0f}",
        f"{program.flops / 1e12:.3f}",
        f"{at_peak * 1e3:.2f}",
    ]
    listing = Listing.of(text)
    if isinstance(chip, Gpu):
        columns, missing = on_gpu(program, listing, chip)
        return [*row, *columns], [], missing if fits else "does not fit"
    columns, lines = on_tpu(program, listing, where, most, bundles)
    return [*row, *columns], lines, "" if fits else "does not fit"


def compiled(program: Program) -> tuple[Any, str, dict[str, int]]:
    """The executable, its text and the bundles of its kernels by their names.

    The text is libtpu's own, because XLA cannot read back all that libtpu has compiled.
    """
    DUMPS.mkdir(mode=0o700)
    try:
        executable = compile_lowered(jax.jit(program.function).lower(*program.arguments))
        texts = [file.read_text("utf-8") for file in DUMPS.glob("*.after_codegen.txt")]
        return executable, texts[0] if texts else str(executable.as_text()), bundles_of_kernels()
    finally:
        shutil.rmtree(DUMPS)


def compile_lowered(lowered: Any) -> Any:
    """The executable; all its products are cuBLAS's if the tiles that XLA takes first for one of Triton's do not work.

    On a card XLA tries several tiles for each product, and leaves out those that do not work.
    """
    options = {"xla_dump_to": str(DUMPS)}
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if "Couldn't find output tile sizes" not in str(error):
            raise
        return lowered.compile(compiler_options=options | {"xla_gpu_enable_triton_gemm": False})


def bundles_of_kernels() -> dict[str, int]:
    """What libtpu has written of each operation: its name is the file's, between two numbers."""
    bundles = {}
    for file in DUMPS.glob("*-schedule-analysis_final_bundles.txt"):
        name = re.search(r"^\d+-(.*)-\d+-sched", file.name)
        number = re.search(r"bundles: +(\d+)", file.read_text("utf-8"))
        if name and number:
            bundles[kernel_name(name[1])] = int(number[1])
    return bundles


def bytes_held(executable: Any) -> int:
    """Of one device's memory, while the program runs."""
    memory = executable.memory_analysis()
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return arrays + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def on_tpu(
    program: Program, listing: Listing, where: Slice, most: int, bundles: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """The rest of a row, and the lines under it."""
    time = estimate(listing, where, program.passes, bundles)
    of_peak = program.flops / where.chip.peak / time.seconds
    columns = [
        f"{time.seconds * 1e3:.2f}",
        f"{of_peak:.0%}",
        f"{program.clips / time.seconds:,.0f}",
        f"{time.on_links * 1e3:.2f}",
        counted(time.collectives),
    ]
    lines = where_time_goes(time, most) if of_peak < SLOW else []
    return columns, [*lines, f"    without an estimate of XLA's, by bytes or FLOPs: {counted(time.without)}"]


def where_time_goes(time: Estimate, most: int) -> list[str]:
    """Shares by kind in one line, and the costliest operations in one each."""
    costliest = sorted(time.operations.items(), key=itemgetter(1), reverse=True)[:most]
    shares = sorted(((seconds / time.seconds, kind) for kind, seconds in time.kinds().items()), reverse=True)
    return [
        "    time: " + ", ".join(f"{share:.0%} {kind}" for share, kind in shares),
        *(f"    {seconds / time.seconds:4.0%} {what}" for what, seconds in costliest),
    ]


def on_gpu(program: Program, listing: Listing, chip: Gpu) -> tuple[list[str], str]:
    """The rest of a row, and whether fused attention is missing."""
    moved, found = bytes_moved(listing, program.passes), kernels(listing, program.passes)
    seconds = max(program.flops / chip.peak, moved / chip.bandwidth)
    columns = [
        f"{moved / 1e9:.1f}",
        f"{moved / chip.bandwidth * 1e3:.2f}",
        f"{program.clips / seconds:,.0f}",
        counted(found),
    ]
    lacks = chip.fused_attention and found[ATTENTION] < program.attentions
    return columns, f"{found[ATTENTION]} of {program.attentions} attentions are fused" if lacks else ""


def counted(things: Mapping[str, int]) -> str:
    """How many of each there are, the most first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(things).most_common()) or "none"


def check_all(config: Settings, slices: Sequence[str], parts: Sequence[str], most: int) -> None:
    """One table per slice.

    Args:
        config: gives the batch sizes.
        slices: see `open_slice`.
        parts: of the programs' names; none: all programs.
        most: how many of the costliest operations to list under a slow program.

    Raises:
        UsageError: no such slice or program.
        DataError: something is wrong with a program, after all tables.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is what is measured
    os.environ.setdefault("LIBTPU_INIT_ARGS", LIBTPU)
    wrong = []
    for name in slices:
        where = open_slice(name)
        note, columns = (GPU_NOTE, ON_GPU) if isinstance(where.chip, Gpu) else (TPU_NOTE, ON_TPU)
        print(f"\n{name}: {where.devices.size} x {where.devices[0].device_kind}; {note}")
        print(" | ".join(columns), flush=True)
        programs = all_programs(config, where.devices, where.chip.memory)
        chosen = [title for title in programs if not parts or any(part in title for part in parts)]
        if not chosen:
            raise UsageError(f"--program={parts[0]}: expected a part of one of {', '.join(programs)}")
        for title in chosen:
            row, lines, reason = check(programs[title](), where, most)
            print("\n".join([" | ".join(row), *lines]), flush=True)
            wrong += [f"{title} on {name}: {reason}"] if reason else []
    if wrong:
        raise DataError("; ".join(wrong))


def command() -> None:
    """Defines the flags and runs."""
    default = "configs/semi.py:mer2024,root=unread"
    config = config_flags.DEFINE_config_file("config", default, "Config file whose batch sizes are checked.")
    tpus = ["v5e:2x4", "v5p:2x2x1", "v6e:2x4"]
    slices = flags.DEFINE_multi_string("slice", tpus, "A TPU slice, as v5e:2x4, or GPUs, as h100 or h100:8.")
    most = flags.DEFINE_integer("ops", 3, "How many of the costliest operations to list under a slow program.")
    parts = flags.DEFINE_multi_string("program", [], "Only programs whose name contains this.")
    cli.run(lambda: check_all(read_settings(Settings, config.value), slices.value, parts.value, most.value))


if __name__ == "__main__":
    command()
