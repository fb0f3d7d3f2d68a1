"""How long a batch of so many rows runs: as measured in a profile, or as learned from the batches themselves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from setpoint.core import Profile

_FORGET = 0.98
"""Weight that a batch keeps when the next one comes: about the last 50 batches count."""
_COLD_BATCHES = 4
"""Of the first batches nothing is learned but that they were possible: they pay for caches and lazy allocation."""
_UNSEEN_GROWTH = 2
"""Without a profile, a batch is at most this many times larger than the largest one seen."""


class LatencyLaw(Protocol):
    """Run time by rows, never falling. Of the engine's run alone, before any correction."""

    most_rows: int
    """The largest batch that may be formed."""

    def run_ns(self, rows: int) -> float:
        """Time for so many rows."""
        ...

    def rows_within(self, run_ns: float) -> int:
        """The most rows, up to ``most_rows``, that run within so long; 0 where not even one does."""
        ...

    def observe(self, rows: int, run_ns: int) -> None:
        """A batch of ``rows`` ran for ``run_ns``."""
        ...


class MeasuredLaw:
    """A profile's p50 by batch size, straight lines between what was measured, made to never fall.

    Beyond the last measured size it goes on in proportion, which no real engine exceeds by much.
    """

    __slots__ = ("_ns", "most_rows")

    def __init__(self, points: Sequence[tuple[int, float]], most_rows: int) -> None:
        """Make the table.

        Args:
            points: rows and nanoseconds, ascending in rows.
            most_rows: the largest batch that may be formed.
        """
        self.most_rows = most_rows
        table = [0.0]
        before = (0, 0.0) if len(points) == 1 else _first_anchor(points)
        for rows, run_ns in points:
            slope = (run_ns - before[1]) / (rows - before[0])
            for step in range(len(table), min(rows, most_rows) + 1):
                table.append(max(table[-1], before[1] + slope * (step - before[0])))
            before = (rows, run_ns)
        for step in range(len(table), most_rows + 1):
            table.append(max(table[-1], before[1] * step / before[0]))
        self._ns = table

    @classmethod
    def from_profile(cls, profile: Profile, most_rows: int) -> MeasuredLaw:
        """The law that a profile states by its p50: of a large batch it has few runs, and their p95 is one of them."""
        return cls([(point.rows, point.p50_ms * 1e6) for point in profile.latency], most_rows)

    def run_ns(self, rows: int) -> float:
        """Time for so many rows."""
        if rows <= self.most_rows:
            return self._ns[rows]
        return self._ns[-1] * rows / self.most_rows  # a single request larger than any batch

    def rows_within(self, run_ns: float) -> int:
        """The most rows that run within so long."""
        return bisect_right(self._ns, run_ns) - 1 if run_ns >= 0 else 0

    def observe(self, rows: int, run_ns: int) -> None:
        """A profile is not rewritten by what happens; the predictor corrects it by a factor."""


def _first_anchor(points: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """Where the line through the first two points meets zero rows: what a profile that begins above 1 says of less."""
    (rows, run_ns), (more_rows, more_ns) = points[:2]
    return 0, max(0.0, run_ns - (more_ns - run_ns) / (more_rows - rows) * rows)


class LearnedLaw:
    """A straight line through the latest batches, fitted as they come; both its coefficients stay at or above zero.

    Until a batch has run it says 0: nothing is refused because of what is not known.
    """

    __slots__ = ("_base", "_cold", "_limit_rows", "_slope", "_sums", "most_rows")

    def __init__(self, limit_rows: int, *, grow: bool) -> None:
        """Know nothing.

        Args:
            grow: begin with single rows and double at most, since a large first batch might miss its deadline.
        """
        self._limit_rows = limit_rows
        self.most_rows = 1 if grow else limit_rows
        self._base = self._slope = 0.0
        self._cold = _COLD_BATCHES
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    def run_ns(self, rows: int) -> float:
        """Time for so many rows."""
        return self._base + self._slope * rows

    def rows_within(self, run_ns: float) -> int:
        """The most rows that run within so long."""
        if run_ns < self._base + self._slope:
            return 0
        if not self._slope:
            return self.most_rows
        return min(self.most_rows, int((run_ns - self._base) / self._slope))

    def observe(self, rows: int, run_ns: int) -> None:
        """Move the line."""
        self.most_rows = max(self.most_rows, min(self._limit_rows, rows * _UNSEEN_GROWTH))
        if self._cold:
            self._cold -= 1
            return
        count, sum_b, sum_t, sum_bb, sum_bt = self._sums
        count = count * _FORGET + 1.0
        sum_b = sum_b * _FORGET + rows
        sum_t = sum_t * _FORGET + run_ns
        sum_bb = sum_bb * _FORGET + rows * rows
        sum_bt = sum_bt * _FORGET + rows * run_ns
        self._sums = count, sum_b, sum_t, sum_bb, sum_bt
        spread = sum_bb * count - sum_b * sum_b
        mean_b, mean_t = sum_b / count, sum_t / count
        # Where all batches had about one size a slope would be noise: then time is taken to be in proportion to rows.
        slope = (sum_bt * count - sum_b * sum_t) / spread if spread > 0.01 * sum_b * sum_b else mean_t / mean_b
        self._slope = min(max(slope, 0.0), mean_t / mean_b)
        self._base = mean_t - self._slope * mean_b
