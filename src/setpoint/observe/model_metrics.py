"""What is counted of one model. Plain integers, written by the node's one thread."""

from __future__ import annotations

from collections import Counter

from setpoint.observe.histogram import LATENCY_BOUNDS_NS, ROW_BOUNDS, Histogram
from setpoint.observe.prometheus import Family, Sample

_NS_TO_S = 1e-9


class ModelMetrics:
    """Counters and histograms of one served model.

    Every request that reached the model ends in exactly one outcome: ``ok``, ``cancelled`` (the client left), or the
    ``kind`` of its error. So accepted requests equal the sum of ``outcomes`` and those still in flight.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.outcomes: Counter[str] = Counter()
        self.queue_ns = Histogram(LATENCY_BOUNDS_NS)
        self.run_ns = Histogram(LATENCY_BOUNDS_NS)
        self.total_ns = Histogram(LATENCY_BOUNDS_NS)
        self.batch_rows = Histogram(ROW_BOUNDS)
        self.retries = 0
        self.restarts: Counter[str] = Counter()

    def families(self, labels: dict[str, str]) -> list[Family]:
        """Everything, as series with these labels."""

        def stage(name: str, histogram: Histogram) -> Sample:
            return Sample({**labels, "stage": name}, histogram, _NS_TO_S)

        return [
            Family(
                "setpoint_requests_total",
                "counter",
                "Requests that reached a model, by outcome: ok, cancelled, or the kind of error.",
                tuple(Sample({**labels, "outcome": kind}, n) for kind, n in sorted(self.outcomes.items())),
            ),
            Family(
                "setpoint_requests_accepted_total",
                "counter",
                "Requests that entered a model's queue.",
                (Sample(labels, self.accepted),),
            ),
            Family(
                "setpoint_request_duration_seconds",
                "histogram",
                "Time of answered requests by stage: queue (waiting), run (in a worker), total (arrival to answer).",
                (stage("queue", self.queue_ns), stage("run", self.run_ns), stage("total", self.total_ns)),
            ),
            Family(
                "setpoint_batch_rows",
                "histogram",
                "Rows of each batch that a worker ran.",
                (Sample(labels, self.batch_rows),),
            ),
            Family(
                "setpoint_request_retries_total",
                "counter",
                "Requests given to a second worker because the first was lost or their batch failed.",
                (Sample(labels, self.retries),),
            ),
            Family(
                "setpoint_worker_restarts_total",
                "counter",
                "Workers replaced, by reason.",
                tuple(Sample({**labels, "reason": reason}, n) for reason, n in sorted(self.restarts.items())),
            ),
        ]
