"""How long a compiled program takes on a TPU by XLA's own estimates, good to about ten points of the peak either way.

XLA notes for most operations how many cycles it expects them to take; they follow each other as listed. For the others
this counts, and says so:

- a collective takes what a chip gets from the others over the links of the chip with the fewest of them;
- a kernel of Pallas, of which XLA knows nothing, its bundles of instructions, which are issued one in a cycle, as often
  as it has steps, or its arrays' bytes at the memory's bandwidth if that is longer;
- anything else without an estimate, such as copies to the chip, its arrays' bytes at the memory's bandwidth.

What lies between `-start` and `-done` is done behind the operations between; the rest of it is waited for.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from launch.devices import Slice, Tpu
from launch.listing import FREE, Listing, Operation, sides_of, size_of, sizes_in

CYCLES = r'"estimated_cycles":"(\d+)"'
COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?$")
NO_WORK = {"ConcatBitcast", "AllocateBuffer"}  # custom calls that name memory
SCALARS = 1024  # bytes of an operation that nobody waits for
KINDS = {  # the first whose pattern is found in an operation's description
    "waiting for collectives": re.compile(r"^(async-\S+ \S+ )?(all-|reduce-scatter|collective-permute)"),
    "copies": re.compile(r"^(async-|copy|slice)|\w (copy|transpose|bitcast)"),
    "attention": re.compile(r"BNTH|BNTS|/sub$|attention"),  # the logits' product is fused with softmax's subtraction
    "matrix products": re.compile(r"dot_general|convolution|conv_general"),
    "norms and other sums": re.compile(r"reduce|rsqrt"),
    "other": re.compile(""),
}


@dataclass
class Estimate:
    """Of one device. Operations inside a loop count as often as it runs."""

    seconds: float = 0.0
    operations: dict[str, float] = field(default_factory=dict)  # seconds by operation: its opcode, shape, name, origin
    collectives: Counter[str] = field(default_factory=Counter)  # how many run
    on_links: float = 0.0  # seconds of all collectives, waited for or not
    without: Counter[str] = field(default_factory=Counter)  # how many operations have no estimate, by opcode

    def kinds(self) -> dict[str, float]:
        """Seconds by kind of operation."""
        seconds = dict.fromkeys(KINDS, 0.0)
        for what, each in self.operations.items():
            seconds[next(kind for kind, pattern in KINDS.items() if pattern.search(what))] += each
        return seconds


def estimate(
    listing: Listing, where: Slice, passes: int = 1, bundles: Mapping[str, int] = MappingProxyType({})
) -> Estimate:
    """The time of a program on a slice of TPUs.

    Args:
        passes: of a loop of whose length the listing says nothing.
        bundles: of a step of each kernel of Pallas, by its name.
    """
    result = Estimate()
    result.seconds = _Clock(listing, where, passes, bundles, result).run(listing.entry, 1)
    return result


class _Clock:
    """Goes through a program, operation by operation, and notes in an Estimate what each takes."""

    def __init__(self, listing: Listing, where: Slice, passes: int, bundles: Mapping[str, int], result: Estimate):
        assert isinstance(where.chip, Tpu)
        self.listing, self.where, self.chip, self.passes, self.result = listing, where, where.chip, passes, result
        self.bundles = bundles

    def run(self, computation: str, times: int) -> float:
        """Seconds of one pass through a computation that runs so often."""
        now, ends = 0.0, dict[str, float]()  # when what has been started ends
        free = {True: 0.0, False: 0.0}  # when the links, and when the memory, have done all that was asked of them
        for operation in self.listing.computations[computation]:
            if operation.opcode == "while":
                known = self.listing.trips(operation)
                passes = self.passes if known is None else known
                now += passes * sum(self.run(name, times * passes) for name in self.listing.called(operation))
                continue
            if operation.opcode in ("call", "conditional"):
                now += max(self.run(name, times) for name in self.listing.called(operation))
                continue
            computed = operation
            if operation.opcode == "async-start":
                computed = self.listing.computations[self.listing.called(operation)[0]][-1]
            if operation.opcode.endswith("-done"):
                seconds = max(0.0, ends.get(operation.operands[0], 0.0) - now)
            else:
                seconds = self.seconds(computed, times)
            if operation.opcode.endswith("-start"):
                channel = bool(COLLECTIVE.match(computed.opcode))
                free[channel] = ends[operation.name] = max(free[channel], now) + seconds
                continue
            now += seconds
            if seconds:
                shape, spent = operation.shape.partition("{")[0], self.result.operations
                what = f"{operation.opcode} {shape} {operation.name} {operation.origin}".strip()
                spent[what] = spent.get(what, 0.0) + times * seconds
        return now

    def seconds(self, operation: Operation, times: int) -> float:
        """What an operation that runs so often takes by itself, once."""
        if (cycles := operation.number(CYCLES)) is not None:
            return cycles / self.chip.clock
        if operation.opcode in FREE or operation.target in NO_WORK:
            return 0.0
        operands = [self.listing.by_name[name] for name in operation.operands]
        if match := COLLECTIVE.match(operation.opcode):
            seconds = moved(match[1], operation, operands) / self.where.inflow
            self.result.collectives[match[1]] += times
            self.result.on_links += times * seconds
            return seconds
        started = operation.opcode.endswith("-start")  # whose second result is the copy, or the slice
        size = sizes_in(operation.shape)[1] if started else self.listing.traffic(operation)
        bundles = self.bundles.get(kernel_name(operation.name), 0)
        if bundles and operation.target == "tpu_custom_call":
            seconds = bundles * steps_of(operation) / self.chip.cores / self.chip.clock
            return max(size / self.chip.bandwidth, seconds)
        if size > SCALARS:
            self.result.without[operation.target or operation.opcode] += times
        return size / self.chip.bandwidth


def moved(kind: str, operation: Operation, operands: Sequence[Operation]) -> int:
    """Bytes that a chip takes in for a collective, at least."""
    given, sizes = sum(size_of(operand.shape) for operand in operands), sizes_in(operation.shape)
    if kind == "all-gather":
        return max(sizes) - given
    if kind == "reduce-scatter":
        return given - size_of(operation.shape)
    return given * (2 if kind == "all-reduce" else 1)


def kernel_name(operation: str) -> str:
    """Of what an operation calls: XLA numbers its calls."""
    return re.sub(r"\.\d+$", "", operation)


def steps_of(kernel: Operation) -> int:
    """Of a kernel of mer_jax/models/tpu_attention.py: for each row, and each part of its sides that the name tells."""
    rows, queries, width = sides_of(kernel.shape)
    at_once = re.search(r"(\d+)x\d+x(\d+)\D*$", kernel_name(kernel.name))
    return rows * -(-queries // int(at_once[1])) * width // int(at_once[2]) if at_once else rows
