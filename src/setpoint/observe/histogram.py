"""A histogram with fixed bounds: cheap to add to, and sums of two are the histogram of both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# 50 µs to 60 s, about a factor of two apart, finer where objectives lie (1 to 200 ms).
LATENCY_BOUNDS_NS: tuple[int, ...] = tuple(
    round(bound_ms * 1e6)
    for bound_ms in (
        *(0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200),
        *(300, 500, 750, 1000, 2000, 5000, 10_000, 30_000, 60_000),
    )
)
ROW_BOUNDS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts of values by bucket.

    Attributes:
        bounds: upper bounds, inclusive, ascending; a last bucket without bound follows.
        counts: one per bucket, not cumulative.
        total: sum of all values.
        count: number of all values.
    """

    __slots__ = ("bounds", "count", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0
        self.count = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
        self.count += times

    def merge(self, other: Histogram) -> None:
        """Add another histogram of equal bounds.

        Raises:
            ValueError: the bounds differ.
        """
        if self.bounds != other.bounds:
            raise ValueError("histograms of different bounds cannot be added")
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        self.count += other.count

    def quantile(self, share: float) -> float:
        """The value below which ``share`` (0 to 1) of all lie, interpolated in its bucket; 0 when empty."""
        if not self.count:
            return 0.0
        target = share * self.count
        seen = 0
        for index, in_bucket in enumerate(self.counts):
            if seen + in_bucket >= target and in_bucket:
                low = self.bounds[index - 1] if index else 0
                high = self.bounds[index] if index < len(self.bounds) else self.bounds[-1]
                return low + (high - low) * (target - seen) / in_bucket
            seen += in_bucket
        return float(self.bounds[-1])
