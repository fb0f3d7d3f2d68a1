"""What the simulation tests share: small fleets with exact or noisy laws, made from text-like tuples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from setpoint.plan import AffineRunTimes, Fleet, Outcome, SimulatedRequest, Traffic, parse_arrivals, simulate
from setpoint.scheduling import Action, ObjectivePolicy, ObjectiveTerms, Scheduler, VariantTerms

Law = tuple[str, float, float, float]
"""Name, milliseconds a batch, milliseconds a row, accuracy."""
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
    **more: object,
) -> tuple[Outcome, Scheduler[SimulatedRequest]]:
    """Serve the traffic by the objective; ``scale`` stretches all times of laws and bound."""
    scheduler: Scheduler[SimulatedRequest] = Scheduler(ObjectivePolicy(terms_of(laws, bound_ms, noisy, scale, **more)))
    fleet = Fleet(
        workers,
        tuple(law[0] for law in laws),
        tuple(law[3] for law in laws),
        tuple(run_times(law, noisy, seed + 100, scale) for law in laws),
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
