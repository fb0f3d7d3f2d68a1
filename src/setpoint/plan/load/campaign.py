"""Several runs of one target: a list of rates, or the search for the largest that is held.

Each run is judged by itself, with a chance of 1 % of being wrong; a search makes some ten of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf

import msgspec

from setpoint.plan.load.openloop import LoadPlan, Watch, run_load
from setpoint.plan.load.results import LoadResult
from setpoint.plan.load.search import (
    STEP,
    Maximum,
    Probe,
    first_seconds,
    maximum,
    next_rate,
    outcome_of,
    second_seconds,
)
from setpoint.plan.load.transport import Target

PAUSE_S = 0.5
"""Between runs: what the last one left in the server's queues is not this one's."""

Begin = Callable[[LoadPlan], Watch | None]
"""Called before each run; gives who watches it."""
End = Callable[[LoadResult], None]
"""Called after each run."""


def run_rates(target: Target, plan: LoadPlan, rates_per_s: Sequence[float], begin: Begin, end: End) -> list[LoadResult]:
    """One run for each rate, in their order.

    Raises:
        InvalidConfiguration: a schedule is impossible.
    """
    results = []
    for number, rate_per_s in enumerate(rates_per_s):
        if number:
            time.sleep(PAUSE_S)
        results.append(_run(target, msgspec.structs.replace(plan, rate_per_s=rate_per_s), begin, end))
    return results


def find_maximum(
    target: Target, plan: LoadPlan, begin: Begin, end: End, *, step: float = STEP, budget_s: float = inf
) -> tuple[Maximum, list[LoadResult]]:
    """Search the largest rate whose attainment is proven, from the plan's rate on.

    Args:
        step: by which rates grow or shrink until the maximum is enclosed.
        budget_s: no other rate is tried after so long.

    Returns:
        what was found, and the last run at each rate that was tried.

    Raises:
        InvalidConfiguration: a schedule is impossible.
    """
    probes: list[Probe] = []
    results: list[LoadResult] = []
    end_s = time.monotonic() + budget_s
    while (rate_per_s := next_rate(probes, plan.rate_per_s, step)) is not None:
        if results and time.monotonic() > end_s:
            return maximum(probes, plan.target_share, in_time=False), results
        seconds: float | None = first_seconds(rate_per_s, plan.seconds, plan.target_share)
        for _attempt in (1, 2):
            if seconds is None:
                break
            if results:
                time.sleep(PAUSE_S)
            result = _run(target, msgspec.structs.replace(plan, rate_per_s=rate_per_s, seconds=seconds), begin, end)
            seconds = second_seconds(seconds, result.verdict, result.void is not None)
        probes.append(Probe(rate_per_s, outcome_of(result.verdict, result.void is not None)))
        results.append(result)
    return maximum(probes, plan.target_share), results


def _run(target: Target, plan: LoadPlan, begin: Begin, end: End) -> LoadResult:
    result = run_load(target, plan, begin(plan))
    end(result)
    return result
