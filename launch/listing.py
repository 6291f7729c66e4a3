"""Reads the text of a compiled program (HLO): its operations, and how often each of them runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

HEADER = re.compile(r"(ENTRY )?%?(\S+) \(.*\{$")
OPERATION = re.compile(r"\s+(ROOT )?%?(\S+) = (.*?) ([a-z][\w-]*)\((.*)$")
OPERAND = re.compile(r"%([\w.-]+)")
ARRAY = re.compile(r"\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]")
CALLS = ("condition", "body", "to_apply", "branch_computations", "true_computation", "false_computation", "calls")
SLICES = ("dynamic-slice", "slice", "gather")
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all")


@dataclass(frozen=True)
class Operation:
    """One line of a computation."""

    name: str
    shape: str  # of the result: "bf16[8,128]{1,0}", or several in parentheses
    opcode: str
    operands: tuple[str, ...]  # names
    arguments: str  # what stands in its parentheses
    attributes: str  # what follows them

    def attribute(self, name: str) -> tuple[str, ...]:
        """The computations that an attribute names."""
        value = re.search(rf"\b{name}=(\{{[^}}]*\}}|\S+)", self.attributes)
        return tuple(OPERAND.findall(value[1])) if value else ()

    def number(self, pattern: str) -> int | None:
        """What the pattern's group finds in the attributes."""
        value = re.search(pattern, self.attributes)
        return int(value[1]) if value else None

    @property
    def origin(self) -> str:
        """Where in the traced function it is from."""
        name = re.search(r'op_name="([^"]*)"', self.attributes)
        return name[1] if name else ""

    @property
    def target(self) -> str:
        """What a custom call calls."""
        name = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return name[1] if name else ""


@dataclass(frozen=True)
class Listing:
    """A program."""

    computations: Mapping[str, Sequence[Operation]]
    entry: str
    by_name: Mapping[str, Operation] = field(repr=False)  # XLA's names are unique in a program

    @classmethod
    def of(cls, text: str) -> "Listing":
        computations: dict[str, list[Operation]] = {}
        entry = name = ""
        for line in text.splitlines():
            if header := HEADER.match(line):
                name = header[2]
                computations[name] = []
                entry = name if header[1] else entry
            elif name and (match := OPERATION.match(line)):
                _, operation, shape, opcode, rest = match.groups()
                arguments, attributes = _split(rest)
                operands = tuple(OPERAND.findall(arguments))
                computations[name].append(Operation(operation, shape, opcode, operands, arguments, attributes))
        everything = {operation.name: operation for body in computations.values() for operation in body}
        return cls(computations, entry, everything)

    def trips(self, loop: Operation) -> int | None:
        """How often a `while` runs; None where the text does not say.

        XLA may have noted it. On TPUs it has not: there the loop's condition says up to what its counter, which starts
        at a constant and grows by one as in every loop of `jax.lax.scan`, counts.
        """
        if (noted := loop.number(r'"known_trip_count":\{"n":"(\d+)"')) is not None:
            return noted
        (condition,) = loop.attribute("condition")
        compare = self.computations[condition][-1]
        if compare.opcode != "compare" or "direction=LT" not in compare.attributes:
            return None
        counter, bound = (self.by_name[name] for name in compare.operands)
        index = counter.number(r"index=(\d+)")
        carried = self.by_name[loop.operands[0]]
        if index is None or carried.opcode != "tuple" or bound.opcode != "constant":
            return None
        start = self.by_name[carried.operands[index]]
        while start.opcode in ("copy", "bitcast"):
            start = self.by_name[start.operands[0]]
        return int(bound.arguments) - int(start.arguments) if start.opcode == "constant" else None

    def called(self, operation: Operation) -> tuple[str, ...]:
        """The computations that an operation runs, beside what is fused, or applied to each element."""
        if operation.opcode not in ("while", "call", "conditional", "async-start"):
            return ()
        return tuple(name for role in CALLS for name in operation.attribute(role))

    def executions(self, computation: str = "", times: int = 1, passes: int = 1) -> Iterator[tuple[Operation, int]]:
        """Every operation that runs, but those inside fusions, and how often.

        passes: of a loop of whose length the text says nothing.
        """
        for operation in self.computations[computation or self.entry]:
            yield operation, times
            often = times
            if operation.opcode == "while":
                known = self.trips(operation)
                often *= passes if known is None else known
            for called in self.called(operation):
                yield from self.executions(called, often, passes)

    def traffic(self, operation: Operation) -> int:
        """Bytes that an operation reads and writes; of an array that it slices, or updates in place, the slice."""
        if operation.opcode in FREE or operation.opcode.endswith("-done"):
            return 0
        if operation.opcode == "fusion":
            inside = self.computations[operation.attribute("calls")[0]]
            parameters = [each for each in inside if each.opcode == "parameter"]
            return sum(self._read(each, inside) for each in parameters) + self._written(inside[-1])
        if operation.opcode in SLICES:
            return 2 * size_of(operation.shape)
        if operation.opcode == "dynamic-update-slice":
            return 2 * self._written(operation)
        return sum(size_of(self.by_name[name].shape) for name in operation.operands) + size_of(operation.shape)

    def _read(self, array: Operation, inside: Sequence[Operation]) -> int:
        """Bytes of an array that the other operations of a fusion look at."""
        users = [each for each in inside if array.name in each.operands]
        if all(each.opcode in SLICES for each in users):
            return sum(size_of(each.shape) for each in users)
        if all(each.opcode == "dynamic-update-slice" and each.operands[0] == array.name for each in users):
            return 0
        if all(each.opcode == "bitcast" for each in users):
            return sum(self._read(each, inside) for each in users)
        return size_of(array.shape)

    def _written(self, root: Operation) -> int:
        """Bytes that the last operation of a fusion writes."""
        if root.opcode == "tuple":
            return sum(self._written(self.by_name[name]) for name in root.operands)
        if root.opcode == "bitcast":
            return self._written(self.by_name[root.operands[0]])
        return size_of(self.by_name[root.operands[1]].shape if root.opcode == "dynamic-update-slice" else root.shape)


def _split(rest: str) -> tuple[str, str]:
    """What follows an opening parenthesis -> what is inside, and what comes after."""
    depth = 1
    for position, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:position], rest[position + 1 :]
    return rest, ""


def sizes_in(shape: str) -> list[int]:
    """Bytes of each array of an operation's results."""
    return [
        prod(map(int, filter(None, sides.split(",")))) * (8 if dtype == "pred" else int(bits)) // 8
        for dtype, bits, sides in ARRAY.findall(shape)
    ]


def size_of(shape: str) -> int:
    """Bytes of all of them."""
    return sum(sizes_in(shape))


def sides_of(shape: str) -> list[int]:
    """The first one's sides."""
    match = ARRAY.search(shape)
    return [int(side) for side in match[3].split(",") if side] if match else []
