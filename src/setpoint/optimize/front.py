"""Which variants are kept, what each can hold, and which operating point meets the objective. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from setpoint.core import Goal, LatencyPoint, Objective, Profile, Quantity
from setpoint.optimize.profiler import Measured
from setpoint.optimize.study import Entry, Point
from setpoint.scheduling import worth_per_s

LEAST_GAIN = 1.1
"""A variant that is neither this many times faster nor smaller does not pay for its existence."""
NOT_SLOWER = 0.95
"""What a variant that is only smaller must keep of the original's speed."""
USABLE_SHARE = 0.9
"""Of a capacity: beyond it queues grow without bound. The scheduler leaves a variant at the same share."""
_HOPELESS = 1.5
"""Times the original's run time, with all cores, at a middling batch: no other layout makes up for that."""
_NEAR = 3.0
"""Times the drop that is allowed: what loses up to that much is worth mentioning."""
DEFAULT_DROP_PERCENT = 1.0
"""What may be lost where the objective does not say."""


def with_drop(objective: Objective) -> Objective:
    """The same with what may be lost stated, so that whoever serves by it allows what was chosen by it."""
    return objective if objective.drop else Objective((*objective.goals, Goal(Quantity.DROP, DEFAULT_DROP_PERCENT)))


def floor_of(objective: Objective | None) -> float:
    """Least accuracy that may be left, 0 to 1."""
    goal = objective.drop if objective else None
    return 1.0 - (goal.bound if goal else DEFAULT_DROP_PERCENT) / 100.0


def why_drop_for_accuracy(entry: Entry, floor: float) -> str:
    """Why a variant is too inaccurate, or nothing."""
    if entry.verdict is None or entry.variant.accuracy >= floor - 1e-9:
        return ""
    loss = entry.verdict.loss
    return (
        f"may lose {100 * loss.high:.2g} % of {entry.verdict.metric}"
        f" ({100 * loss.value:.2g} % seen on {loss.rows} rows), more than {100 * (1 - floor):.2g} %"
    )


def why_drop_without_promise(entry: Entry, objective: Objective | None) -> str:
    """Why a variant may not serve by an objective that limits the loss, or nothing: it was not judged on real rows."""
    if entry.promised or objective is None or objective.drop is None:
        return ""
    return (
        "nothing is known of its accuracy without data: give labelled or real rows (--data), or accept agreement on"
        " made-up rows (--accept-made-up)"
    )


def why_not_measure(run_ms: float, original_ms: float) -> str:
    """Why a variant is not worth measuring by what its answers took while it was judged, or nothing."""
    if run_ms <= _HOPELESS * original_ms:
        return ""
    return f"{run_ms / original_ms:.1f}× slower than the original while it was judged; it was not measured"


def _gain(measured: Measured) -> float:
    """Times faster. One row answered sooner is no gain where many take longer: the original serves low loads."""
    return max(measured.speedup, measured.latency_gain) if measured.speedup >= NOT_SLOWER else measured.speedup


def near_miss(entry: Entry, floor: float) -> bool:
    """Whether a variant that is too inaccurate is close enough to be measured, to say what a larger drop would give."""
    return (
        entry.verdict is not None
        and entry.variant.accuracy < floor
        and 1.0 - entry.variant.accuracy <= _NEAR * (1.0 - floor)
    )


def worth_measuring(entry: Entry, floor: float) -> bool:
    """Whether a dropped variant is measured all the same, to say what a larger drop, or data, would give."""
    return near_miss(entry, floor) or (not entry.promised and entry.variant.accuracy >= floor)


def worth_another_layout(measured: Sequence[Measured]) -> bool:
    """Whether a variant may still pay elsewhere: one that was clearly slower in every layout so far will not."""
    return not measured or any(max(each.speedup, each.latency_gain) >= NOT_SLOWER for each in measured)


def why_drop_for_speed(measured: Sequence[Measured], original: Sequence[Measured]) -> str:
    """Why a variant does not pay, or nothing. Both are measured in the same layouts, in the same order."""
    working = [(mine, theirs) for mine, theirs in zip(measured, original, strict=True) if mine.profile is not None]
    if not working:
        return f"could not be measured: {measured[0].problem}" if measured else "was not measured"
    faster = max(_gain(mine) for mine, _ in working)
    if faster >= LEAST_GAIN:
        return ""
    smaller = max(_memory(theirs.profile) / max(1, _memory(mine.profile)) for mine, theirs in working)
    if smaller >= LEAST_GAIN and faster >= NOT_SLOWER:
        return ""
    speed = f"{faster:.2f}× as fast" if faster < 1 else f"only {faster:.2f}× faster"
    size = f" and {smaller:.2f}× smaller" if smaller >= 1.005 else ""
    return f"{speed}{size}; {LEAST_GAIN:g}× is what it takes"


def why_drop_for_another(entry: Entry, others: Sequence[Entry]) -> str:
    """Why a variant is needless beside the others, or nothing: one of them is as accurate, as fast and as small.

    Args:
        entry: kept so far, and not the original.
        others: kept so far, the original among them.
    """
    for other in others:
        if other.variant.accuracy < entry.variant.accuracy:
            continue
        if all(_no_better(mine, _same_layout(mine, other)) for mine in entry.measured):
            return f"{other.variant.name} is as accurate, as fast and as small"
    return ""


def without_needless(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with those marked as dropped that another kept one makes needless. The first is the original."""
    found = list(entries)
    for index, entry in enumerate(found):
        if index and entry.kept:
            others = [each for each in found if each.kept and each is not entry]
            found[index] = msgspec.structs.replace(entry, dropped=why_drop_for_another(entry, others))
    return found


def _same_layout(measured: Measured, other: Entry) -> Measured | None:
    return next((each for each in other.measured if each.candidate.layout == measured.candidate.layout), None)


def _no_better(mine: Measured, theirs: Measured | None) -> bool:
    if mine.profile is None:
        return True
    if theirs is None or theirs.profile is None:
        return False
    as_small = mine.profile.memory_bytes * LEAST_GAIN > theirs.profile.memory_bytes
    sizes = {point.rows: point for point in theirs.profile.latency}
    as_fast = theirs.profile.best.rows_per_s >= mine.profile.best.rows_per_s and all(
        sizes[point.rows].p50_ms <= point.p50_ms for point in mine.profile.latency if point.rows in sizes
    )
    return as_small and as_fast


def _memory(profile: Profile | None) -> int:
    return profile.memory_bytes if profile is not None else 0


def point_of(entry: Entry, measured: Measured, objective: Objective | None) -> Point:
    """The best batch for an objective: the highest rate whose latency keeps the bound.

    A request may find all workers busy: it waits until one of them is done, which with ``w`` workers is a ``w``-th of a
    batch away, and then runs in a batch of its own.
    """
    candidate, profile = measured.candidate, measured.profile
    assert profile is not None
    goal = objective.latency if objective else None
    bound_ms = goal.bound_ns / 1e6 if goal else float("inf")
    percentile = goal.percentile if goal else 99.0
    best = Point(entry.variant.name, candidate.workers, candidate.threads, 0, 0.0, 0.0, entry.variant.accuracy)
    for point in profile.latency:
        latency_ms = latency_of(point, candidate.workers, percentile)
        rate = USABLE_SHARE * candidate.workers * point.rows_per_s
        if latency_ms <= bound_ms and rate > best.rate_per_s:
            best = Point(best.variant, best.workers, best.threads, point.rows, rate, latency_ms, entry.variant.accuracy)
    return best


def latency_of(point: LatencyPoint, workers: int, percentile: float) -> float:
    """What a request takes at a percentile, in milliseconds, while all workers run batches of this size."""
    run_ms = point.p99_ms if percentile > 95 else point.p95_ms if percentile > 50 else point.p50_ms
    return run_ms * (1.0 + 1.0 / workers)


def front_of(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats in both accuracy and rate, most accurate first."""
    ranked = sorted((point for point in points if point.rows), key=lambda point: (-point.accuracy, -point.rate_per_s))
    front: list[Point] = []
    for point in ranked:
        if not front or point.rate_per_s > front[-1].rate_per_s:
            front.append(point)
    return tuple(front)


def choose(points: Sequence[Point], objective: Objective | None) -> Point | None:
    """The operating point: the layout and, in it, the fastest variant, or the most accurate one that holds the rate.

    All variants of one layout are resident, and the scheduler prefers the most accurate while it can; so what decides
    between layouts is what the fastest variant holds there; where its runs have several threads, a tenth less counts.

    Args:
        points: of kept variants.
        objective: a rate in it is enough: then the most accurate point that holds it is chosen.
    """
    able = [point for point in points if point.rows]
    if not able:
        return None
    goal = objective.rate if objective else None
    if goal is not None:
        holding = [point for point in able if point.rate_per_s >= goal.bound]
        if holding:
            return max(holding, key=lambda point: (point.accuracy, _worth_per_s(point)))
    return max(able, key=lambda point: (_worth_per_s(point), point.accuracy))


def _worth_per_s(point: Point) -> float:
    return worth_per_s(point.rate_per_s, point.threads)
