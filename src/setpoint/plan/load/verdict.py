"""Is the objective proven? MLPerf's early-stopping rule. Pure.

``misses`` of ``queries`` were late or failed. "At least ``target`` of all queries are answered in time" is proven when
so few misses would be seen with a chance of at most 1 % if it were not true: binomial cdf F(misses; queries,
1 - target) <= 0.01. It is refuted when so many would be seen with a chance of at most 1 % if it were true. Otherwise
more queries are needed.

The rule takes queries as independent of each other. Under overload they are not (misses come in rows), so that a
proven rate is a fair statement about this run's traffic and no guarantee for a day with other bursts.

Source: mlcommons/inference_policies, "Early Stopping"; MLCommons LoadGen, ``early_stopping.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum

import msgspec

DOUBT = 0.01
"""Chance of being wrong; MLPerf's 99 % confidence."""
_MOST_QUERIES = 1 << 34


class State(StrEnum):
    """What is known about an objective."""

    PROVEN = "proven"
    REFUTED = "refuted"
    OPEN = "open"


class Verdict(msgspec.Struct, frozen=True):
    """The judgement of one run.

    Attributes:
        target: share of queries that must be answered in time, such as 0.99.
        queries: how many were sent.
        misses: how many of them were not answered in time.
        state: proven, refuted or open.
        more_queries: how many more would prove it if misses go on as they were; 0 when proven, None where they never
            would.
    """

    target: float
    queries: int
    misses: int
    state: State
    more_queries: int | None


def judge(queries: int, misses: int, target: float) -> Verdict:
    """Judge a run.

    Args:
        queries: all that were offered, 0 or more.
        misses: how many of them were not answered in time.
        target: share that must be, above 0 and below 1.
    """
    if at_most(misses, queries, 1 - target) <= DOUBT:
        return Verdict(target, queries, misses, State.PROVEN, 0)
    refuted = misses > 0 and 1 - at_most(misses - 1, queries, 1 - target) <= DOUBT
    state = State.REFUTED if refuted else State.OPEN
    return Verdict(target, queries, misses, state, None if refuted else _more_queries(queries, misses, target))


def minimum_queries(misses: int, target: float) -> int:
    """The fewest queries with which ``misses`` still prove the target: 459 for none at 0.99, 662 for one."""
    return _first(misses + 1, lambda queries: at_most(misses, queries, 1 - target) <= DOUBT) or _MOST_QUERIES


def at_most(successes: int, trials: int, chance: float) -> float:
    """Binomial cdf: the chance of at most ``successes`` in ``trials``, each of which succeeds with ``chance``."""
    if successes >= trials:
        return 1.0
    if successes > trials * chance:
        # The tail above is the shorter sum, and the sum below loses its digits near 1.
        return 1.0 - _sum_down(trials - successes - 1, trials, 1 - chance)
    return _sum_down(successes, trials, chance)


def _sum_down(successes: int, trials: int, chance: float) -> float:
    """The cdf as a sum of terms that fall from ``successes`` to 0: each is the one above it times a ratio below 1."""
    if successes < 0:
        return 0.0
    log_choose = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    term = math.exp(log_choose + successes * math.log(chance) + (trials - successes) * math.log1p(-chance))
    odds = (1 - chance) / chance
    total = 0.0
    for count in range(successes, -1, -1):
        total += term
        if term < total * 1e-17:
            break
        term *= count / (trials - count + 1) * odds
    return min(1.0, total)


def _more_queries(queries: int, misses: int, target: float) -> int | None:
    share = misses / queries if queries else 0.0
    if share >= 1 - target:
        return None

    def proves(total: int) -> bool:
        return at_most(math.ceil(share * total), total, 1 - target) <= DOUBT

    total = _first(max(1, queries), proves)
    return None if total is None else total - queries


def _first(start: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest count from ``start`` on for which ``holds`` is true, if it stays true once it is."""
    low, high = start - 1, start
    while not holds(high):
        if high >= _MOST_QUERIES:
            return None
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
