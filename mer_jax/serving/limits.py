"""What a server takes on."""

from typing import NamedTuple


class Limits(NamedTuple):
    """The flags of `mer_jax.serve` that bound its work."""

    queue: int  # requests at once, from the first byte of their clips to the last one of the answer
    batch_clips: int  # that the device gets together
    wait_ms: float  # that a clip waits for others to go with it
    max_mib: float  # of a request
    max_seconds: float  # of a clip
    timeout: float  # seconds for an upload, and again for the answer
    grace: float = 30.0  # seconds in which a server that is stopped finishes what it has begun

    @property
    def most_bytes(self) -> int:
        """`max_mib` in bytes."""
        return int(self.max_mib * 2**20)
