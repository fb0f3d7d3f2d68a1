"""What came of a simulation, counted over everything that was offered."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec


class TenantOutcome(msgspec.Struct, frozen=True):
    """One tenant's part."""

    offered: int
    answered_in_time: int
    p50_ms: float
    p99_ms: float


class Outcome(msgspec.Struct, frozen=True):
    """Figures of one run.

    Attributes:
        attainment: answered within the objective, of all offered; refusals and late answers are misses.
        goodput_per_s: answers within the objective per second.
        mean_accuracy: over what was answered; 0 when nothing was.
        p50_ms, p99_ms: of what was answered, from its arrival.
        refused: by reason.
        refusal_p50_ms, refusal_p99_ms: from arrival to refusal.
        mean_batch_rows: rows of a batch.
        variants: share of the answers by variant's name.
        utilisation: share of the workers' time spent on batches.
        events: that the simulator worked through: arrivals, completions, wakes.
    """

    offered: int
    answered: int
    attainment: float
    goodput_per_s: float
    mean_accuracy: float
    p50_ms: float
    p99_ms: float
    refused: dict[str, int]
    refusal_p50_ms: float
    refusal_p99_ms: float
    mean_batch_rows: float
    variants: dict[str, float]
    utilisation: float
    tenants: dict[str, TenantOutcome]
    duration_s: float
    events: int


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all reach; 0 of nothing."""
    return ascending[max(0, ceil(share * len(ascending)) - 1)] if ascending else 0.0


class Recorder:
    """Collects what happens during a run."""

    def __init__(self) -> None:
        self.latencies_ms: dict[str, list[float]] = {}
        self.in_time: dict[str, int] = {}
        self.offered: dict[str, int] = {}
        self.refusal_ages_ms: list[float] = []
        self.refused: dict[str, int] = {}
        self.answers_by_variant: list[int] = []
        self.batches = 0
        self.rows = 0
        self.busy_ns = 0
        self.events = 0

    def outcome(self, names: Sequence[str], accuracies: Sequence[float], workers: int, duration_s: float) -> Outcome:
        """The figures."""
        tenants = {}
        for tenant, offered in self.offered.items():
            own = sorted(self.latencies_ms[tenant])
            tenants[tenant] = TenantOutcome(offered, self.in_time[tenant], percentile(own, 0.5), percentile(own, 0.99))
        latencies = sorted(value for values in self.latencies_ms.values() for value in values)
        ages = sorted(self.refusal_ages_ms)
        offered = sum(self.offered.values())
        in_time = sum(self.in_time.values())
        answered = len(latencies)
        counts = [*self.answers_by_variant, *[0] * (len(names) - len(self.answers_by_variant))]
        weighed = sum(count * accuracy for count, accuracy in zip(counts, accuracies, strict=True))
        return Outcome(
            offered=offered,
            answered=answered,
            attainment=in_time / offered if offered else 1.0,
            goodput_per_s=in_time / duration_s,
            mean_accuracy=weighed / answered if answered else 0.0,
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
            refused=dict(sorted(self.refused.items())),
            refusal_p50_ms=percentile(ages, 0.5),
            refusal_p99_ms=percentile(ages, 0.99),
            mean_batch_rows=self.rows / self.batches if self.batches else 0.0,
            variants={name: count / answered if answered else 0.0 for name, count in zip(names, counts, strict=True)},
            utilisation=self.busy_ns / (workers * duration_s * 1e9),
            tenants=tenants,
            duration_s=duration_s,
            events=self.events,
        )
