"""What ``/metrics`` tells, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from manyheads.modeling.inference import PREDICTION_BATCH

SECONDS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server, in a registry of its own.

    Attributes:
        requests: Requests by path, status and code; the code is empty if a request was answered.
        seconds: Time from the headers of a request to its answer, by path.
        batches: Samples in each batch of the model.
        samples: Samples by outcome: ``usual``, ``noted`` (with a note) or the code of what cannot be read.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Begin at 0; ``waiting`` returns the number of samples that wait for their answers."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "manyheads_requests", "Requests by path, status and code.", ["path", "status", "code"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "manyheads_request_seconds", "Seconds from the headers of a request to its answer.", ["path"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "manyheads_batch_samples", "Samples in each batch of the model.",
            buckets=[2**i for i in range(PREDICTION_BATCH.bit_length())], registry=self.registry,
        )  # fmt: skip
        self.samples = Counter(
            "manyheads_samples", "Samples: usual, noted, or the code of what cannot be read.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        Gauge("manyheads_samples_waiting", "Samples that wait for their answers.", registry=self.registry).set_function(
            waiting
        )
