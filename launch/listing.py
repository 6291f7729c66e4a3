"""What a compiled program's text says of where XLA expects the cycles to go."""

import re
from collections.abc import Sequence

CYCLES = re.compile(r'%(\S+) = (\S+) .*?"estimated_cycles":"(\d+)"')
OP_NAME = re.compile(r'op_name="([^"]*)"')
KINDS = {  # the first that is found in an operation's description, as `costliest` gives it
    "copies": re.compile(r" (copy|transpose|bitcast)"),
    "attention": re.compile(r"BNTH|BNTS|/sub$"),  # the logits' product is fused with softmax's subtraction
    "matrix products": re.compile(r"dot_general|convolution|conv_general"),
    "norms and other sums": re.compile(r"reduce|rsqrt"),
    "other": re.compile(""),
}


def costliest(text: str) -> list[tuple[int, str]]:
    """XLA's estimate of every operation in a listing, cycles and description, the largest first."""
    operations = []
    for line in text.splitlines():
        if match := CYCLES.search(line):
            origin = OP_NAME.search(line)
            operations.append((int(match[3]), f"{match[2]} {match[1]} {origin[1] if origin else ''}".strip()))
    return sorted(operations, reverse=True)


def kinds_of(operations: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Cycles by kind of operation."""
    cycles = dict.fromkeys(KINDS, 0.0)
    for count, what in operations:
        cycles[next(kind for kind, pattern in KINDS.items() if pattern.search(what))] += count
    return cycles
