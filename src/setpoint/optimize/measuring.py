"""What to measure next, and when it is enough. Pure: knows neither processes nor the time.

Two phases. First the batch sizes are found: 1, 2, 4 … are tried until larger ones no longer pay. Then every candidate
at every one of its sizes is a *cell*, and rounds go over all cells, size by size, with the candidates of one size next
to each other: whatever the machine does meanwhile, it does to all of them, and what counts is compared within a round.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence, Set

import msgspec

from setpoint.core import LatencyPoint

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes tried, in rows."""
_GAIN = 1.03
"""A larger batch that does not raise the rate by this has not paid."""
_LAWFUL = 0.05
"""Share by which a run may be off the affine law that is taken for it: what a profile is trusted to anyway."""
_PATIENCE = 2
"""Sizes that may follow one another without paying before larger ones are no longer tried."""


class Cell(msgspec.Struct, frozen=True):
    """One candidate (by its index) at one batch size."""

    candidate: int
    rows: int


class Rules(msgspec.Struct, frozen=True):
    """When to stop.

    Attributes:
        rounds_least, rounds_most: over all cells.
        tolerance: a cell is stable when the standard error of its median, over rounds, is below this share of it.
        slow_ms: batches longer than this are not tried, except single rows.
    """

    rounds_least: int = 5
    rounds_most: int = 24
    tolerance: float = 0.02
    slow_ms: float = 2_000.0


class Samples:
    """Run times as they come, by cell and visit."""

    def __init__(self) -> None:
        self.visits: dict[Cell, list[list[float]]] = {}

    def add(self, cell: Cell, runs_ms: Sequence[float]) -> None:
        """The runs of one visit of a cell, in milliseconds."""
        self.visits.setdefault(cell, []).append(list(runs_ms))

    def median_ms(self, cell: Cell) -> float:
        """The median of the visits' medians."""
        return statistics.median(statistics.median(runs) for runs in self.visits[cell])

    def spread(self, cell: Cell) -> float:
        """Standard error of ``median_ms`` as a share of it; infinite before the second visit."""
        medians = [statistics.median(runs) for runs in self.visits.get(cell, ())]
        if len(medians) < 2:
            return float("inf")
        centre = statistics.median(medians)
        # 1.4826 times the median deviation is the standard deviation of what is normally distributed; a neighbour that
        # takes a core for one visit does not move it. 1.2533: a median is that much less certain than a mean.
        deviation = 1.4826 * statistics.median(abs(median - centre) for median in medians)
        return float(1.2533 * deviation / len(medians) ** 0.5 / centre)

    def point(self, cell: Cell) -> LatencyPoint:
        """All runs of a cell as a profile's point."""
        runs = sorted(run for visit in self.visits[cell] for run in visit)
        p50_ms, p95_ms, p99_ms = (percentile(runs, share) for share in (0.50, 0.95, 0.99))
        return LatencyPoint(cell.rows, p50_ms, p95_ms, p99_ms, len(runs))


def layouts_of(cores: int) -> Iterator[tuple[int, int]]:
    """Workers and threads that fill the cores: 1 thread each, 2, 4 … and all cores for one worker."""
    threads = 1
    while threads < cores:
        yield cores // threads, threads
        threads *= 2
    yield 1, cores


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value with at least this share of all values at or below it."""
    index = max(0, -(-len(ascending) * share // 1) - 1)
    return ascending[min(int(index), len(ascending) - 1)]


def next_size(rates: dict[int, float], last_ms: float, most_rows: int, rules: Rules) -> int | None:
    """The batch size to try after those tried, or None where larger ones will not pay.

    Args:
        rates: rows/s by size, for all sizes tried so far.
        last_ms: run time of the largest one.
        most_rows: the largest batch that may be formed.
        rules: when a batch takes too long.
    """
    tried = sorted(rates)
    larger = [size for size in SIZES if size <= most_rows and (not tried or size > tried[-1])]
    if not larger:
        return None
    if tried and 2 * last_ms > rules.slow_ms:
        return None
    if len(tried) > _PATIENCE:
        before = max(rates[size] for size in tried[:-_PATIENCE])
        if all(rates[size] < _GAIN * before for size in tried[-_PATIENCE:]):
            return None
    return larger[0]


def worth_sizes(rates: dict[int, float]) -> tuple[int, ...]:
    """The sizes to measure in earnest: all that were tried but a tail that fell off."""
    tried = sorted(rates)
    while len(tried) > 1 and rates[tried[-1]] < 0.9 * max(rates.values()):
        tried.pop()
    return tuple(tried)


def round_order(cells: Sequence[Cell], number: int) -> list[Cell]:
    """The cells of one round: by size, and within a size beginning with another candidate each time."""
    ordered: list[Cell] = []
    for rows in sorted({cell.rows for cell in cells}):
        same = [cell for cell in cells if cell.rows == rows]
        shift = number % len(same)
        ordered += same[shift:] + same[:shift]
    return ordered


def enough(samples: Samples, cells: Sequence[Cell], rounds: int, rules: Rules) -> bool:
    """Whether another round would tell little."""
    if rounds < rules.rounds_least:
        return False
    return rounds >= rules.rounds_most or all(samples.spread(cell) <= rules.tolerance for cell in cells)


def worth_measuring(times_ms: Mapping[int, float]) -> tuple[int, ...]:
    """Of the sizes that were tried, those to measure in earnest: the affine law between them says what the others take.

    A run takes ``a + b·rows`` wherever an engine does the same for each row. The first size, the last and the one with
    the best rate are measured; where what was seen of another is off the line between its neighbours, it is, too.

    Args:
        times_ms: of a run, by size, as it was tried.
    """
    tried = sorted(times_ms)
    kept = {tried[0], tried[-1], max(tried, key=lambda rows: rows / times_ms[rows])}
    while True:
        off = {rows: abs(_between(kept, times_ms, rows) / times_ms[rows] - 1.0) for rows in tried if rows not in kept}
        worst = max(off, key=off.__getitem__, default=None)
        if worst is None or off[worst] <= _LAWFUL:
            return tuple(sorted(kept))
        kept.add(worst)


def _between(kept: Set[int], times_ms: Mapping[int, float], rows: int) -> float:
    """On the line between the next sizes that are kept."""
    low, high = max(size for size in kept if size < rows), min(size for size in kept if size > rows)
    return _on_line(rows, low, high, times_ms[low], times_ms[high])


def _on_line(rows: int, low: int, high: int, low_ms: float, high_ms: float) -> float:
    return low_ms + (rows - low) / (high - low) * (high_ms - low_ms)


def with_predicted(points: Sequence[LatencyPoint], sizes: Sequence[int]) -> tuple[LatencyPoint, ...]:
    """The measured points, and those that the law predicts of the other sizes; they are known by having no samples.

    Args:
        points: measured, ascending; the smallest and the largest of the sizes among them.
        sizes: all that were tried.
    """
    found = {point.rows: point for point in points}
    for rows in set(sizes) - set(found):
        low, high = max(p for p in found if p < rows), min(p for p in found if p > rows)
        below, above = found[low], found[high]
        times = (
            _on_line(rows, low, high, below.p50_ms, above.p50_ms),
            _on_line(rows, low, high, below.p95_ms, above.p95_ms),
            _on_line(rows, low, high, below.p99_ms, above.p99_ms),
        )
        found[rows] = LatencyPoint(rows, *times, 0)
    return tuple(found[rows] for rows in sorted(found))


def paired_speedup(samples: Samples, candidate: int, baseline: int) -> float:
    """How many times the baseline's best rate a candidate reaches: the median over rounds, each compared with itself.

    Args:
        samples: of both.
        candidate, baseline: indices; of the same layout, so that as many workers ran.
    """
    pairs = zip(_rates(samples, candidate), _rates(samples, baseline), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs]
    return statistics.median(ratios) if ratios else 0.0


def paired_latency_gain(samples: Samples, candidate: int, baseline: int) -> float:
    """How many times faster a single row is, over rounds as above."""
    mine, theirs = (samples.visits.get(Cell(index, 1), []) for index in (candidate, baseline))
    ratios = [statistics.median(b) / statistics.median(a) for a, b in zip(mine, theirs, strict=False)]
    return statistics.median(ratios) if ratios else 0.0


def _rates(samples: Samples, candidate: int) -> list[float]:
    """Best rows/s of one worker, by round."""
    cells = [cell for cell in samples.visits if cell.candidate == candidate]
    rounds = min((len(samples.visits[cell]) for cell in cells), default=0)
    return [
        max(cell.rows / statistics.median(samples.visits[cell][index]) * 1e3 for cell in cells)
        for index in range(rounds)
    ]
