"""What a batch of one variant will take from now to its answers, and what follows from it: the batch size to aim for.

    predicted = pace · law(rows) + the larger of (spread · law(rows), excess) + outside

``law`` is the profile's p50 (or learned), ``pace`` what batches of this variant and lane take of it on average of late,
``spread`` what the profile's p95 lies above its p50 as a rule, ``excess`` the p95 of what batches took beyond their
pace: stalls, which come to small batches as they come to large ones, and so are not in proportion to rows. ``outside``
is the p95 of what passes between handing a batch over and hearing that it is done, beyond its run. So the machine's
present state is in every decision: a neighbour that takes a core shows at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from statistics import median

from setpoint.scheduling.latency_law import LatencyLaw, LearnedLaw, MeasuredLaw
from setpoint.scheduling.quantile import RollingQuantile
from setpoint.scheduling.sizing import BatchSizer
from setpoint.scheduling.terms import ObjectiveTerms, VariantTerms

WINDOW = 100
"""Batches that the corrections look back."""
_PACE_WEIGHT = 0.05
"""Of the latest batch in the average: about the last twenty count."""
_MIDDLE_WINDOW, _MIDDLE_WEIGHT = 20, 4
"""Batches whose median says what is normal, and how many of them the profile's word counts for at the beginning."""
_NEW_NORMAL = 1.2
"""When the median has moved by this factor, a machine that runs at another pace must not look like one that stalls."""
_STRAGGLER = 2.0
"""Times the median that a batch counts for in the average at most."""
PRIOR_WEIGHT = 20
"""Batches that the profile's word counts for at the beginning."""
_LEAST, _MOST = 0.02, 50.0
"""Bounds of a correction. Wide, since a profile is of one shape: longer sequences may take ten times as long."""
_BRISK = 0.9
"""Share of the attainable rate that short runs keep."""
_SIZES = (1, 2, 3, *(step << power for power in range(9) for step in (4, 5, 6, 7)))
"""Batch sizes that are compared: each one up to 8, then four to a doubling."""


class Prediction:
    """One variant in one lane.

    Attributes:
        most_rows: the largest batch to form, whatever the time.
        crowded: far more is asked for than can be held.
        tight: not even a single row is sure to be in time. Then what is likely counts, and not what is nearly certain:
            a bound that is held for most is better than an empty promise to hold it for all, and nobody served.
        batch_rows: the batch to aim for: the smallest that reaches all but a few per cent of the attainable rate.
        rows_per_s: that rate, of all workers together; infinite while nothing is known, 0 where no batch is in time.
        brisk_rows: a smaller batch, which gives up some of that rate for shorter runs.
    """

    __slots__ = (
        "_excess",
        "_law",
        "_middle",
        "_normal",
        "_outside",
        "_pace",
        "_room_ns",
        "_sizer",
        "_spread",
        "_spread_share",
        "_stall_ns",
        "batch_rows",
        "brisk_rows",
        "crowded",
        "most_rows",
        "observed_ns",
        "rows_per_s",
        "tight",
    )

    def __init__(self, variant: VariantTerms, terms: ObjectiveTerms, limit_rows: int, outside: RollingQuantile) -> None:
        self._law: LatencyLaw
        self._sizer: BatchSizer | None = None
        self._spread_share = 0.0
        if variant.profile is not None:
            self._spread_share = median([point.p95_ms / point.p50_ms for point in variant.profile.latency]) - 1.0
            self._law = MeasuredLaw.from_profile(variant.profile, limit_rows)
        else:
            self._law = LearnedLaw(limit_rows, grow=terms.has_objective)
            self._sizer = BatchSizer(limit_rows)
        self._outside = outside
        self._middle = RollingQuantile(0.5, _MIDDLE_WINDOW, 1.0, _MIDDLE_WEIGHT)
        self._excess = RollingQuantile(terms.quantile, WINDOW, 0.0, PRIOR_WEIGHT)
        self._normal = self._pace = 1.0
        self._spread = self._spread_share
        self._stall_ns = 0.0
        self._room_ns = inf
        self.crowded = self.tight = False
        self.observed_ns = 0
        self.most_rows = self._law.most_rows
        self.batch_rows = self.brisk_rows = self.most_rows
        self.rows_per_s = inf

    def ns(self, rows: int) -> float:
        """From now to the answers of a batch of so many rows."""
        if self.tight:
            return self.typical_ns(rows)
        law_ns = self._law.run_ns(rows)
        beyond_ns = self._spread * law_ns
        if beyond_ns < self._stall_ns:
            beyond_ns = self._stall_ns
        return self._pace * law_ns + beyond_ns + self._outside.value

    def typical_ns(self, rows: int) -> float:
        """As ``ns``, but what it takes on average."""
        return self._pace * self._law.run_ns(rows) + self._outside.median

    def reckoned_ns(self, rows: int) -> float:
        """What such a batch is reckoned with, for those in it and for those behind it.

        Where everybody can be served, what it takes on average: whoever is likely to be in time is worth trying, and
        several batches in a row are rarely all slow. Where many must be refused anyway, what is nearly certain.
        """
        return self.ns(rows) if self.crowded else self.typical_ns(rows)

    def rows_within(self, budget_ns: float) -> int:
        """The most rows whose answers are there within so long."""
        law = self._law
        if self.tight:
            return law.rows_within((budget_ns - self._outside.median) / self._pace)
        budget_ns -= self._outside.value
        rows = law.rows_within((budget_ns - self._stall_ns) / self._pace)
        return min(rows, law.rows_within(budget_ns / (self._pace + self._spread))) if self._spread else rows

    def observe(self, rows: int, run_ns: int) -> None:
        """A batch of so many rows ran for so long: correct the prediction."""
        law_ns = self._law.run_ns(rows)
        if law_ns > 0:
            ratio = min(max(run_ns / law_ns, _LEAST), _MOST)
            self._learn_pace(ratio)
            self._excess.add((ratio - self._pace) * law_ns)
            self._set_stall()
        self._law.observe(rows, run_ns)

    def _learn_pace(self, ratio: float) -> None:
        self._middle.add(ratio)
        middle = self._middle.value
        if not self._normal / _NEW_NORMAL < middle < self._normal * _NEW_NORMAL:
            self._normal = self._pace = middle
            self._excess.restart(0.0)
        self._pace += _PACE_WEIGHT * (min(ratio, _STRAGGLER * middle) - self._pace)
        self._spread = self._pace * self._spread_share

    def forgive(self) -> None:
        """Nothing was seen of late: lean back towards what the profile says."""
        self._learn_pace(1.0)
        self._excess.add(0.0)
        self._set_stall()

    @property
    def is_doubtful(self) -> bool:
        """Whether the prediction rests on what was seen of late, which may have passed, and not on a profile."""
        return self._sizer is not None or self._pace > 1.0 or self._stall_ns > self._spread * self._law.run_ns(1)

    def learn(self, rows: int, run_ns: int) -> None:
        """For a variant without a profile: which size of batch is best."""
        if self._sizer is not None:
            self._sizer.observe(None, rows, run_ns)
            self.most_rows = min(self._law.most_rows, self._sizer.batch_rows(None))

    def aim(self, workers: int, bound_ns: int, flat_tolerance: float) -> None:
        """Set ``batch_rows`` and ``rows_per_s``.

        A request arrives, waits at worst for the batch that runs, which with staggered workers ends within a
        ``workers``-th of its time, and runs: that must be within the bound. Stalls do not count as they are: a small
        batch stalls as a large one does, so shrinking batches because of them would lose far more than it saves. The
        aim is the batch with which most are answered in time, a stall's victims not counted; and no more time is set
        aside for stalls than that batch leaves.
        """
        self._room_ns = inf
        self._set_stall()
        self.tight = False
        if self.typical_ns(1) <= 0:
            self.batch_rows = self.brisk_rows = self.most_rows
            self.rows_per_s = inf
            return
        turns = 1.0 + 1.0 / workers
        sizes, rates, scores, rooms = [], [], [], []
        for size in _sizes_to(self.most_rows):
            room_ns = bound_ns - turns * self.typical_ns(size)
            if room_ns < self._spread * self._law.run_ns(size):
                break
            sizes.append(size)
            rates.append(size / self.typical_ns(size))
            scores.append(rates[-1] * self._excess.share_within(room_ns))
            rooms.append(room_ns)
        if not sizes:
            # Even single rows cannot all wait for the one before: some are in time, if no more come than can run.
            self.tight = self.ns(1) > bound_ns
            single_ns = self.ns(1)
            self.batch_rows = self.brisk_rows = 1
            self.rows_per_s = workers * 1e9 / single_ns if single_ns <= bound_ns else 0.0
            return
        best = max(scores)
        at = next(index for index, score in enumerate(scores) if score >= best * (1.0 - flat_tolerance))
        self.brisk_rows = next(size for size, score in zip(sizes, scores, strict=True) if score >= best * _BRISK)
        self.batch_rows, self.rows_per_s = sizes[at], workers * 1e9 * rates[at]
        self._room_ns = rooms[at]
        self._set_stall()
        self.tight = self.ns(1) > bound_ns

    def _set_stall(self) -> None:
        self._stall_ns = min(max(0.0, self._excess.value), self._room_ns)


def _sizes_to(most_rows: int) -> Iterator[int]:
    yield from (size for size in _SIZES if size < most_rows)
    yield most_rows
