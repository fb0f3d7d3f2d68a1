"""How many rows to put into one batch: learned from what batches really took.

A larger batch is not always better. On a CPU, all-MiniLM-L6-v2 computes most rows per second at batches of 4 to 8 and
loses a tenth of it at 64, where activations leave the cache; a logistic regression gains all the way. The largest
batch also makes everybody in it wait longest. So: the smallest batch whose cost per row is within a few per cent of the
cheapest, found by trying powers of two while enough work waits to fill them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

_TRIALS = 3
"""Batches to time at one size before believing it."""
_FIRST_ROWS = 16
"""Where the search begins: beginning at 64 made the first clients of a slow model wait for batches that nobody needs,
and a quick model climbs from here in a few milliseconds."""
_WINDOW = 9
"""Batches remembered per size; the median of them is its cost, so single stragglers do not count."""
_TOLERANCE = 1.03
"""A smaller batch wins when its cost per row is at most this much above the cheapest."""
_RECHECK_EVERY = 2048
"""Full batches between two looks at the neighbouring sizes. Each look at a larger one makes everybody behind it wait
longer: every 64 batches it was seen in p99."""
_DRIFT = 1.25
"""The neighbours are looked at again, too, when the chosen size's own cost has moved by this factor."""
_LANES_REMEMBERED = 64
"""Lanes (input shapes) with statistics of their own; the least recently used is forgotten."""
_HANDOFF_NS = 150_000
"""What a batch costs beside its run: waking the worker, splitting the answers. Keeps tiny models at large batches."""


class BatchSizer:
    """Chooses the batch size for each lane of one model.

    It only experiments with full batches: how long an odd remainder took says nothing about a limit.
    """

    def __init__(self, limit_rows: int) -> None:
        if limit_rows < 1:
            raise ValueError(f"a batch has at least one row, got {limit_rows}")
        self._limit_rows = limit_rows
        self._ladder = _ladder(limit_rows)
        self._lanes: OrderedDict[Hashable, _LaneSizes] = OrderedDict()

    def batch_rows(self, lane: Hashable) -> int:
        """Most rows to put into the lane's next batch."""
        if self._limit_rows == 1:
            return 1
        sizes = self._lanes.get(lane)
        return self._ladder[_first_step(self._ladder)] if sizes is None else sizes.current

    def observe(self, lane: Hashable, rows: int, run_ns: int) -> None:
        """Learn from a batch of ``rows`` that took ``run_ns`` in the worker."""
        if self._limit_rows == 1:
            return
        sizes = self._lanes.get(lane)
        if sizes is None:
            sizes = self._lanes[lane] = _LaneSizes(self._ladder)
            if len(self._lanes) > _LANES_REMEMBERED:
                self._lanes.popitem(last=False)
        else:
            self._lanes.move_to_end(lane)
        sizes.observe(rows, run_ns)


def _ladder(limit_rows: int) -> list[int]:
    sizes = [1]
    while sizes[-1] * 2 < limit_rows:
        sizes.append(sizes[-1] * 2)
    if limit_rows > 1:
        sizes.append(limit_rows)
    return sizes


def _first_step(ladder: list[int]) -> int:
    return max(step for step, rows in enumerate(ladder) if rows <= _FIRST_ROWS)


class _LaneSizes:
    """Cost per row at each size of the ladder, and which size to use next."""

    def __init__(self, ladder: list[int]) -> None:
        self._ladder = ladder
        self._costs: list[deque[float]] = [deque(maxlen=_WINDOW) for _ in ladder]
        self._medians: list[float | None] = [None] * len(ladder)
        self._chosen = self._trial = _first_step(ladder)
        self._full_batches = 0
        self._settled_cost = 0.0

    @property
    def current(self) -> int:
        return self._ladder[self._trial]

    def observe(self, rows: int, run_ns: int) -> None:
        if rows < 0.75 * self.current or rows > self.current:
            return
        costs = self._costs[self._trial]
        costs.append((run_ns + _HANDOFF_NS) / rows)
        self._full_batches += 1
        if len(costs) < _TRIALS:
            return
        cost = self._medians[self._trial] = sorted(costs)[len(costs) // 2]
        if self._trial == self._chosen and self._settled_cost and self._is_due(cost):
            self._forget_neighbours()
        self._choose()
        self._trial = self._next_trial()

    def _choose(self) -> None:
        enough = min([cost for cost in self._medians if cost is not None]) * _TOLERANCE
        self._chosen = next(step for step, cost in enumerate(self._medians) if cost is not None and cost <= enough)

    def _next_trial(self) -> int:
        """A neighbour of the chosen size that nothing is known of, the smaller one first; then the chosen size."""
        for neighbour in (self._chosen - 1, self._chosen + 1):
            if 0 <= neighbour < len(self._ladder) and self._medians[neighbour] is None:
                self._settled_cost = 0.0
                return neighbour
        if not self._settled_cost:
            self._settled_cost = self._medians[self._chosen] or 0.0
        return self._chosen

    def _is_due(self, cost: float) -> bool:
        moved = max(cost / self._settled_cost, self._settled_cost / cost)
        return moved > _DRIFT or self._full_batches % _RECHECK_EVERY == 0

    def _forget_neighbours(self) -> None:
        """Everything but the newest of the chosen size is of a machine that may be no more."""
        newest = list(self._costs[self._chosen])[-_TRIALS:]
        for costs in self._costs:
            costs.clear()
        self._costs[self._chosen].extend(newest)
        chosen = self._medians[self._chosen]
        self._medians = [None] * len(self._ladder)
        self._medians[self._chosen] = chosen
