"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)


class Metrics:
    """Of one server: a registry of its own, so that a process may hold several."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("mer_requests", "Requests by answer.", ["path", "status"], registry=registry)
        self.queue = Gauge("mer_queue_length", "Clips that are uploaded, wait or are worked on.", registry=registry)
        self.seconds = Histogram(
            "mer_request_seconds", "From a request to its answer.", ["path"], buckets=SECONDS, registry=registry
        )
        self.batches = Histogram(
            "mer_batch_clips",
            "Clips that the device got together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
