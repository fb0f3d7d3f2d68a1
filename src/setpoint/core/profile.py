"""Profile: what was measured of a variant on a given hardware. All planning starts from these numbers."""

from __future__ import annotations

import bisect

import msgspec

from setpoint.core.errors import InvalidConfiguration


class LatencyPoint(msgspec.Struct, frozen=True):
    """Batch time at one batch size, in milliseconds, over ``samples`` runs; without any it is what the affine law
    between its neighbours says."""

    rows: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples: int

    @property
    def rows_per_s(self) -> float:
        """Throughput of one worker at this batch size."""
        return self.rows / self.p50_ms * 1e3


class Profile(msgspec.Struct, frozen=True):
    """One variant, measured.

    Attributes:
        variant: the variant's name in its bundle.
        threads: engine threads it was measured with.
        hardware: fingerprint of CPU features and library versions; a profile is void where it differs.
        latency: by batch size, ascending.
        memory_bytes: resident memory that the worker grew by when it loaded and ran the variant.
        load_ms: from the artifact on disk to a loaded engine.
        warmup_ms: the first run.
    """

    variant: str
    threads: int
    hardware: str
    latency: tuple[LatencyPoint, ...]
    memory_bytes: int
    load_ms: float
    warmup_ms: float

    def __post_init__(self) -> None:
        rows = [point.rows for point in self.latency]
        if not rows or rows != sorted(set(rows)) or rows[0] < 1:
            raise InvalidConfiguration(f"a profile's batch sizes ascend from 1 or more, got {rows}")

    @property
    def best(self) -> LatencyPoint:
        """The smallest batch whose throughput is within 3 % of the best measured."""
        top = max(point.rows_per_s for point in self.latency)
        return next(point for point in self.latency if point.rows_per_s >= 0.97 * top)

    def p95_ms(self, rows: int) -> float:
        """Predicted p95 batch time for ``rows``: the next larger measured size, or the last one scaled up linearly."""
        index = bisect.bisect_left([point.rows for point in self.latency], rows)
        if index < len(self.latency):
            return self.latency[index].p95_ms
        last = self.latency[-1]
        return last.p95_ms * rows / last.rows
