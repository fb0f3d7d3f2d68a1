"""What a profile can hold: the scheduler that serves, in simulated time, at the highest rate that keeps the objective.

A formula would have to guess how batches form; the simulator runs the very scheduler of the node on the profile, in
requests of one row each. What the node takes for them comes out of the workers' cores, and the node, which is one
thread, does no more than it can. Other models and clients are left out.
"""

from __future__ import annotations

import math
import os

import msgspec
import numpy as np

from setpoint.core import Objective, Profile
from setpoint.optimize.study import Point
from setpoint.optimize.surroundings import Surroundings
from setpoint.plan import ArrivalKind, Arrivals, Fleet, MeasuredRunTimes, Outcome, Traffic, simulate
from setpoint.scheduling import ObjectivePolicy, ObjectiveTerms, Scheduler, VariantTerms

_REQUESTS = 6_000
"""Of one simulation: enough that 1 % of them are a figure."""
_BOUNDS = 20
"""Times the objective's bound that are simulated at least, where that is not too many requests."""
_STEPS = 7
_OUTSIDE_NS = 150_000
"""What passes around each run beside the node's work: waking the worker, and being woken by it."""
_NODE_USE_MOST = 0.7
"""Of the node's one thread, for requests alone: beyond it they wait for the node, which no worker can make good.
Batches are not counted: the busier the node, the more requests have come when it looks again, and share one."""
_SEED = 1
_SLICE_NS = 700_000
"""What Linux leaves of a core to whoever has it, times 1 + log2 of the processors up to 8 (EEVDF's base slice). Whoever
is woken while all cores are taken waits up to that: once the worker for its batch, and once the node for the answer."""


def forecast(
    point: Point,
    profile: Profile,
    objective: Objective,
    limit_rows: int,
    surroundings: Surroundings = Surroundings(),  # noqa: B008  # frozen
) -> Point:
    """The point with what simulation says of it.

    Args:
        point: of one variant in one layout; its rate is taken as the first guess.
        profile: of that variant in that layout.
        objective: with a bound on latency.
        limit_rows: the largest batch.
        surroundings: what serving takes beside the runs.

    Returns:
        the highest rate at which the share of answers in time is kept, the latency and the batch size then; a rate of
        0 where none keeps it.
    """
    capacity = point.workers * profile.best.rows_per_s
    low, found = 0.0, None
    high = min(1.1 * capacity, _NODE_USE_MOST * 1e9 / surroundings.request_ns)
    for _ in range(_STEPS):
        rate = (low + high) / 2
        if rate * surroundings.request_at(rate) > _NODE_USE_MOST * 1e9:
            high = rate
            continue
        outcome = outcome_at(rate, point, profile, objective, limit_rows, surroundings)
        if outcome.attainment >= _share(objective):
            low, found = rate, outcome
        else:
            high = rate
    if found is None:
        return Point(point.variant, point.workers, point.threads, 0, 0.0, 0.0, point.accuracy)
    rows = max(1, round(found.mean_batch_rows))
    latency_ms = found.p99_ms if _percentile(objective) > 50 else found.p50_ms
    return Point(point.variant, point.workers, point.threads, rows, low, latency_ms, point.accuracy)


def outcome_at(
    rate: float,
    point: Point,
    profile: Profile,
    objective: Objective,
    limit_rows: int,
    surroundings: Surroundings,
) -> Outcome:
    """What simulation says of a point at one rate, in requests per second; the rest is as for ``forecast``."""
    goal = objective.latency
    assert goal is not None, "the caller asks about a bound"
    bound_ns = goal.bound_ns
    variants = (VariantTerms(point.variant, point.accuracy, profile),)
    terms = ObjectiveTerms.holding(goal, variants, batch_limit_rows=limit_rows)
    fleet = Fleet(
        point.workers,
        (point.variant,),
        (point.accuracy,),
        (MeasuredRunTimes(profile, np.random.default_rng(_SEED)),),
        outside_ns=_OUTSIDE_NS + surroundings.batch_ns,
        request_ns=surroundings.request_at(rate) + surroundings.beside_ns,
    )
    waits_ms = 2 * _SLICE_NS * (1 + int(math.log2(min(8, os.cpu_count() or 1)))) / 1e6
    # Long enough for queues to show, and no more requests than a second of simulating is for.
    duration_s = min(max(_REQUESTS / rate, _BOUNDS * bound_ns / 1e9), 4 * _REQUESTS / rate)
    outcome = simulate(
        Scheduler(ObjectivePolicy(terms)),
        fleet,
        [Traffic(Arrivals(ArrivalKind.POISSON), rate)],
        bound_ns=bound_ns,
        duration_s=duration_s,
        seed=_SEED,
    )
    # So long waits one answer in a hundred; admission learns what passes around runs, and keeps to the bound.
    slowest_ms = max(outcome.p99_ms, min(outcome.p99_ms + waits_ms, bound_ns / 1e6))
    return msgspec.structs.replace(outcome, p99_ms=slowest_ms)


def _percentile(objective: Objective) -> float:
    return objective.latency.percentile if objective.latency is not None else 0.0


def _share(objective: Objective) -> float:
    return _percentile(objective) / 100.0
