"""Latencies in logarithmic buckets: at most 0.8 % off, a few kilobytes, and sums of two are the histogram of both.

Pure. Why not hdrhistogram: its buckets are these (powers of two, cut into equal parts), here in sixty lines without a
compiled dependency, and sparse, so that one for each second of a long run costs nothing. Why not
``observe.Histogram``: its bounds are a factor of two apart, which is right for a Prometheus page and too coarse to
judge an objective with.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_BITS = 6
_PARTS = 1 << _BITS
"""Equal parts of each power of two: a bucket is at most 1/64 of its lower bound wide, its middle 1/128 off."""

NS_PER_MS = 1e6


def bucket_of(value_ns: int) -> int:
    """The bucket of a value of 0 or more; values below 128 ns have one of their own."""
    shift = max(0, value_ns.bit_length() - _BITS - 1)
    return (shift << _BITS) + (value_ns >> shift)


def bucket_bounds_ns(bucket: int) -> tuple[int, int]:
    """Lowest value of a bucket, and lowest of the next."""
    shift = max(0, (bucket >> _BITS) - 1)
    low = (bucket - (shift << _BITS)) << shift
    return low, low + (1 << shift)


class Percentiles(msgspec.Struct, frozen=True):
    """Some latencies, in milliseconds. ``max_ms`` and ``mean_ms`` are exact, the others within 0.8 %."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class LatencyHistogram:
    """Counts of durations in nanoseconds.

    Attributes:
        counts: bucket → how many; buckets without any are absent.
        count: how many in all.
        total_ns: their sum.
        max_ns: the longest; 0 when empty.
    """

    __slots__ = ("count", "counts", "max_ns", "total_ns")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def add(self, value_ns: int) -> None:
        """Count a duration; one below 0 counts as 0."""
        value_ns = max(0, value_ns)
        bucket = bucket_of(value_ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.total_ns += value_ns
        self.max_ns = max(self.max_ns, value_ns)

    def merge(self, other: LatencyHistogram) -> None:
        """Add another histogram to this one."""
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def quantile_ns(self, share: float) -> int:
        """The smallest duration such that ``share`` (0 to 1) of all are no longer; 0 when empty."""
        wanted = max(1, -int(-share * self.count // 1))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                low, high = bucket_bounds_ns(bucket)
                return min((low + high - 1) // 2, self.max_ns)
        return 0

    def percentiles(self) -> Percentiles | None:
        """What people ask for; None when empty."""
        if not self.count:
            return None
        p50, p90, p99, p999 = (self.quantile_ns(share) / NS_PER_MS for share in (0.5, 0.9, 0.99, 0.999))
        mean_ms = self.total_ns / self.count / NS_PER_MS
        return Percentiles(self.count, mean_ms, p50, p90, p99, p999, self.max_ns / NS_PER_MS)

    def rows(self) -> list[tuple[int, int]]:
        """``(lowest ns of the bucket, how many)``, ascending: what is written to files."""
        return [(bucket_bounds_ns(bucket)[0], self.counts[bucket]) for bucket in sorted(self.counts)]


def merged(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """The histogram of all values of several."""
    whole = LatencyHistogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole
