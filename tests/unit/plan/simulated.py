"""What the simulation tests share: small fleets with exact or noisy laws, made from text-like tuples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp

import numpy as np

from setpoint.plan import AffineRunTimes, Fleet, Outcome, RunTimes, SimulatedRequest, Traffic, parse_arrivals, simulate
from setpoint.scheduling import Action, ObjectivePolicy, ObjectiveTerms, Scheduler, VariantTerms

Law = tuple[str, float, float, float]
"""Name, milliseconds a batch, milliseconds a row, accuracy."""
Stalls = tuple[float, float, float]
"""Share of the batches that stall, for how many milliseconds at most, and the deviation of all run times' logarithm."""
MS = 1_000_000
FP32: Law = ("fp32", 2.0, 8.0, 0.80)
INT8: Law = ("int8", 1.5, 3.2, 0.79)
SMALL: Law = ("small", 1.0, 1.2, 0.75)


def run_times(law: Law, noisy: bool, seed: int, scale: float = 1.0) -> AffineRunTimes:
    _, base_ms, each_ms, _ = law
    rng = np.random.default_rng(seed)
    if noisy:
        return AffineRunTimes(base_ms * scale, each_ms * scale, rng)
    return AffineRunTimes(base_ms * scale, each_ms * scale, rng, sigma=0.0, straggler_share=0.0)


class Stalling:
    """A machine that others use too: run times jitter, and now and then a batch stands still for a while.

    A stall is as long for a small batch as for a large one.
    """

    def __init__(self, inner: RunTimes, seed: int, *, share: float, most_ms: float, jitter: float) -> None:
        self._inner = inner
        self._rng = np.random.default_rng(seed)
        self._share = share
        self._most_ms = most_ms
        self._jitter = jitter

    def sample_ns(self, rows: int) -> int:
        rng = self._rng
        stall_ms = rng.uniform(0.0, self._most_ms) if rng.random() < self._share else 0.0
        return round(self._inner.sample_ns(rows) * exp(rng.normal(0.0, self._jitter)) + stall_ms * MS)


def terms_of(
    laws: Sequence[Law], bound_ms: float, noisy: bool = False, scale: float = 1.0, **more: object
) -> ObjectiveTerms:
    variants = tuple(
        VariantTerms(law[0], law[3], run_times(law, noisy, 5, scale).profile(law[0], np.random.default_rng(6)))
        for law in laws
    )
    return ObjectiveTerms(variants, int(bound_ms * scale * MS), **more)  # type: ignore[arg-type]


def play(
    laws: Sequence[Law],
    traffic: Sequence[Traffic],
    *,
    workers: int = 2,
    bound_ms: float = 60.0,
    seconds: float = 20.0,
    seed: int = 1,
    noisy: bool = False,
    scale: float = 1.0,
    watch: Callable[[int, Action[SimulatedRequest]], None] | None = None,
    lost_at_s: tuple[float, ...] = (),
    stalls: Stalls | None = None,
    pace: float = 1.0,
    **more: object,
) -> tuple[Outcome, Scheduler[SimulatedRequest]]:
    """Serve the traffic by the objective; ``scale`` stretches all times of laws and bound, ``pace`` what runs take."""
    scheduler: Scheduler[SimulatedRequest] = Scheduler(ObjectivePolicy(terms_of(laws, bound_ms, noisy, scale, **more)))
    times: list[RunTimes] = [run_times(law, noisy, seed + 100, scale * pace) for law in laws]
    if stalls is not None:
        share, most_ms, jitter = stalls
        times = [Stalling(each, seed + 200, share=share, most_ms=most_ms, jitter=jitter) for each in times]
    fleet = Fleet(
        workers,
        tuple(law[0] for law in laws),
        tuple(law[3] for law in laws),
        tuple(times),
        lost_at_s=lost_at_s,
    )
    outcome = simulate(
        scheduler, fleet, traffic, bound_ns=int(bound_ms * scale * MS), duration_s=seconds, seed=seed, watch=watch
    )
    return outcome, scheduler


def poisson(rate_per_s: float, tenant: str = "", deadline_ms: float = 0.0, rows: int = 1) -> Traffic:
    return Traffic(parse_arrivals("poisson"), rate_per_s, tenant, rows, int(deadline_ms * MS))


def capacity_per_s(law: Law, workers: int, bound_ms: float) -> float:
    _, base_ms, each_ms, _ = law
    rows = int((bound_ms / (1 + 1 / workers) - base_ms) / each_ms)
    return workers * rows / (base_ms + each_ms * rows) * 1e3
