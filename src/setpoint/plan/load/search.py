"""The largest rate that is held: which rate to try next. Pure: decided from the probes so far and nothing else.

Rates grow by a step while they are proven (and shrink by it while the first ones are not), then the range between the
highest proven and the lowest not proven is bisected, evenly in proportion, until the two are close.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from setpoint.plan.load.verdict import State, Verdict, minimum_queries

RESOLUTION = 0.05
"""The search ends when the lowest rate not proven is at most 5 % above the highest proven one."""
MOST_PROBES = 24
STEP = 2.0
"""By which rates grow or shrink until the maximum is enclosed, unless a smaller one is asked for."""
LOWEST_RATE_PER_S = 0.1
LONGEST_TIMES = 4.0
"""A probe that stayed open is run once more, at most so many times as long; then it counts as unresolved."""
_DIGITS = 4


class Outcome(StrEnum):
    """What became of a probe. Only the first lets the search go higher."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNRESOLVED = "unresolved"
    VOID = "void"


class Probe(msgspec.Struct, frozen=True):
    """One rate that was tried, by one run or, where the first was open or void, by two."""

    rate_per_s: float
    outcome: Outcome


class Maximum(msgspec.Struct, frozen=True):
    """What the search found.

    Attributes:
        target: share that must be answered in time.
        rate_per_s: the highest proven rate; None if none was.
        not_proven_per_s: the lowest rate that was tried and not proven; None if all were.
        bounded_by: why it is not higher: refuted (by the server), unresolved (more queries are needed), void (the
            generator lags at higher rates), probes (their number ran out), time (the search was given no more).
        probes: in the order in which they were made.
    """

    target: float
    rate_per_s: float | None
    not_proven_per_s: float | None
    bounded_by: str
    probes: tuple[Probe, ...]


def next_rate(probes: Sequence[Probe], start_per_s: float, step: float = STEP) -> float | None:
    """The rate to try next, or None when the search is over.

    Args:
        step: above 1; a small one is quicker where the start is known to be near.
    """
    if len(probes) >= MOST_PROBES:
        return None
    low, high = _bounds(probes)
    if low is None and high is None:
        return _rounded(start_per_s)
    if high is None:
        assert low is not None
        return _rounded(low * step)
    if low is None:
        return _rounded(high.rate_per_s / step) if high.rate_per_s / step >= LOWEST_RATE_PER_S else None
    if high.rate_per_s <= low * (1 + RESOLUTION):
        return None
    middle = _rounded(math.sqrt(low * high.rate_per_s))
    return middle if low < middle < high.rate_per_s else None


def maximum(probes: Sequence[Probe], target: float, *, in_time: bool = True) -> Maximum:
    """What the probes say; ``in_time`` is False where there was no time for another one."""
    low, high = _bounds(probes)
    enclosed = high is not None and (low is None or high.rate_per_s <= low * (1 + RESOLUTION))
    bounded_by = high.outcome.value if enclosed and high is not None else "probes" if in_time else "time"
    return Maximum(target, low, None if high is None else high.rate_per_s, bounded_by, tuple(probes))


def first_seconds(rate_per_s: float, wanted_s: float, target: float) -> float:
    """How long to try a rate: as long as wanted, and long enough that a run without a miss can prove anything."""
    return max(wanted_s, 1.1 * minimum_queries(0, target) / rate_per_s)


def second_seconds(seconds: float, verdict: Verdict, void: bool) -> float | None:
    """How long to try the same rate once more; None where the first run settled it or a second could not."""
    if void:
        return seconds
    if verdict.state is not State.OPEN or verdict.more_queries is None or not verdict.queries:
        return None
    times = 1.2 * (1 + verdict.more_queries / verdict.queries)
    return seconds * times if times <= LONGEST_TIMES else None


def outcome_of(verdict: Verdict, void: bool) -> Outcome:
    """What a probe's last run says of its rate."""
    if void:
        return Outcome.VOID
    return {State.PROVEN: Outcome.PROVEN, State.REFUTED: Outcome.REFUTED, State.OPEN: Outcome.UNRESOLVED}[verdict.state]


def _bounds(probes: Sequence[Probe]) -> tuple[float | None, Probe | None]:
    failed = [probe for probe in probes if probe.outcome is not Outcome.PROVEN]
    high = min(failed, key=lambda probe: probe.rate_per_s, default=None)
    below = [
        probe.rate_per_s
        for probe in probes
        if probe.outcome is Outcome.PROVEN and (high is None or probe.rate_per_s < high.rate_per_s)
    ]
    return max(below, default=None), high


def _rounded(rate_per_s: float) -> float:
    """Four digits: enough to tell rates apart, few enough to read."""
    return float(f"{rate_per_s:.{_DIGITS}g}")
