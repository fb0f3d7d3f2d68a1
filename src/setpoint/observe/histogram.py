"""Counts in logarithmic buckets: at most 0.8 % off, a few kilobytes, and sums of two are the histogram of both.

The one histogram of the house: the node's durations, the load generator's latencies. A bucket is called by its highest
value, and widths are 1, 2 or 5 times a power of ten. So a bound with two significant digits, such as 20 ms, is always a
bucket's own end, and the cumulative counts of a Prometheus page are exact although none of its bounds was fixed before.

Why not hdrhistogram: its buckets end at multiples of powers of two, at no bound that anybody states; and a compiled
dependency for sixty lines. Why not a list of fixed bounds: as dear to add to, and a factor of two apart it is too
coarse to judge an objective with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

NS_PER_MS = 1e6
_PARTS = 64
"""A bucket is at most 1/64 of its values wide, so its middle is at most 1/128 off."""
_MOST_BITS = 80


def _widths() -> tuple[int, ...]:
    """Width of the buckets of the values of so many bits: the largest 1, 2 or 5 × 10ⁿ that is narrow enough."""
    widths = []
    for bits in range(_MOST_BITS):
        widest = max(1, (1 << bits >> 1) // _PARTS)
        power = 10 ** (len(str(widest)) - 1)
        widths.append(power * max(factor for factor in (1, 2, 5) if factor * power <= widest))
    return tuple(widths)


_WIDTHS = _widths()

LATENCY_BOUNDS_NS: tuple[int, ...] = tuple(
    round(bound_ms * 1e6)
    for bound_ms in (
        *(0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200),
        *(300, 500, 750, 1000, 2000, 5000, 10_000, 30_000, 60_000),
    )
)
"""What a Prometheus page shows of durations: 50 µs to 60 s, finer where objectives lie (1 to 200 ms)."""
RATIO_BOUNDS_PPM: tuple[int, ...] = tuple(
    round(bound * 1e6) for bound in (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10)
)
"""What it shows of observed ÷ predicted, in millionths."""


class Percentiles(msgspec.Struct, frozen=True):
    """Some durations, in milliseconds. ``max_ms`` and ``mean_ms`` are exact, the others within 0.8 %."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Buckets(msgspec.Struct, frozen=True):
    """What a Prometheus page shows of a histogram.

    Attributes:
        cumulative: (bound, how many values are not beyond it), ascending.
        count: of all values.
        total: their sum.
    """

    cumulative: tuple[tuple[int, int], ...]
    count: int
    total: int


class Histogram:
    """Counts of whole numbers of 0 or more: durations in nanoseconds, ratios in millionths.

    Attributes:
        counts: highest value of a bucket → how many are in it; buckets without any are absent.
        total: sum of all values.
        max: the largest; 0 when empty.
    """

    __slots__ = ("counts", "max", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.max = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count a value so many times; one below 0 counts as 0. Some 150 ns: it is called several times a request."""
        if value < 0:
            value = 0
        bucket = value + -value % _WIDTHS[value.bit_length()]
        try:
            self.counts[bucket] += times
        except KeyError:
            self.counts[bucket] = times
        self.total += value * times
        if value > self.max:
            self.max = value

    def add_all(self, values: Sequence[int]) -> None:
        """Count some values, at least one; as ``add``, without a call for each."""
        most = max(values)
        if min(values) < 0:
            values = [max(0, value) for value in values]
        counts, widths = self.counts, _WIDTHS
        for value in values:
            bucket = value + -value % widths[value.bit_length()]
            try:
                counts[bucket] += 1
            except KeyError:
                counts[bucket] = 1
        self.total += sum(values)
        if most > self.max:
            self.max = most

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts.values())

    def merge(self, other: Histogram) -> None:
        """Add another histogram to this one."""
        for bucket, times in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + times
        self.total += other.total
        self.max = max(self.max, other.max)

    def quantile(self, share: float) -> int:
        """The smallest value such that ``share`` (0 to 1) of all are not larger; 0 when empty."""
        wanted = max(1, -int(-share * self.count // 1))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(bucket - _WIDTHS[bucket.bit_length()] // 2, self.max)
        return 0

    def percentiles(self) -> Percentiles | None:
        """What people ask of durations in nanoseconds; None when empty."""
        count = self.count
        if not count:
            return None
        p50, p90, p99, p999 = (self.quantile(share) / NS_PER_MS for share in (0.5, 0.9, 0.99, 0.999))
        return Percentiles(count, self.total / count / NS_PER_MS, p50, p90, p99, p999, self.max / NS_PER_MS)

    def rows(self) -> list[tuple[int, int]]:
        """``(highest value of the bucket, how many)``, ascending: what is written to files and can be added up."""
        return sorted(self.counts.items())

    def buckets(self, bounds: Sequence[int]) -> Buckets:
        """Exact cumulative counts at ascending bounds of at most two significant digits."""
        cumulative: list[tuple[int, int]] = []
        rows = self.rows()
        seen, position = 0, 0
        for bound in bounds:
            while position < len(rows) and rows[position][0] <= bound:
                seen += rows[position][1]
                position += 1
            cumulative.append((bound, seen))
        return Buckets(tuple(cumulative), self.count, self.total)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The histogram of all values of several."""
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole
