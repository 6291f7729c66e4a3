"""Which kernels a program that is compiled for a GPU runs, and what they move.

On a card XLA tries several kernels for each product; without one it takes the first that would do.
"""

import re
from collections import Counter

from launch.listing import FREE, Listing, Operation

ATTENTION = "cuDNN attention"
TARGETS = {  # of custom calls, the first that matches
    f"{ATTENTION}, backward": re.compile(r"__cudnn\$fmha.*Backward"),
    ATTENTION: re.compile(r"__cudnn\$fmha"),
    "cuDNN convolution": re.compile(r"__cudnn\$conv"),
    "cuBLASLt": re.compile(r"__cublas\$lt"),
    "cuBLAS": re.compile(r"__cublas\$"),
}
FUSIONS = {  # by the kind in their backend_config
    "cuDNN fusion": re.compile(r"__cudnn"),
    "Triton product": re.compile(r"__triton.*gemm"),
    "Triton fusion": re.compile(r"__triton"),
}


def kernel(operation: Operation) -> str:
    """What computes an operation; empty for one that computes nothing."""
    if operation.opcode == "custom-call":
        names, text = TARGETS, operation.target
    elif operation.opcode == "fusion":
        kind = re.search(r'"kind":"(?:__custom_fusion","custom_fusion_config":{"name":")?(\w+)"', operation.attributes)
        names, text = FUSIONS, kind[1] if kind else ""
    else:
        return "" if operation.opcode in FREE or operation.opcode.endswith("-done") else operation.opcode
    return next((name for name, pattern in names.items() if pattern.match(text)), text or "fusion")


def kernels(listing: Listing, passes: int = 1) -> Counter[str]:
    """How often each kind of kernel runs."""
    counts: Counter[str] = Counter()
    for operation, times in listing.executions(passes=passes):
        if name := kernel(operation):
            counts[name] += times
    return counts


def bytes_moved(listing: Listing, passes: int = 1) -> int:
    """What all kernels read and write, each array from and to the card's memory."""
    return sum(times * listing.traffic(operation) for operation, times in listing.executions(passes=passes))
