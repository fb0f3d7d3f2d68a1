"""What the scheduler promises where run times are not what they were measured to be: jitter, stalls, a slower pace."""

from __future__ import annotations

import pytest
from simulated import FP32, INT8, MS, Stalls, capacity_per_s, play, poisson

from setpoint.plan import SimulatedRequest
from setpoint.scheduling import Action, Refuse

CAPACITY = capacity_per_s(FP32, 2, 60.0)
RESTLESS: Stalls = (0.01, 50.0, 0.05)
ROUGH: Stalls = (0.04, 50.0, 0.1)
P99 = 0.975
"""The quantile of run times by which a p99 is held."""


def refusal_ages_ms(load: float, stalls: Stalls) -> list[float]:
    ages_ms: list[float] = []

    def watch(now_ns: int, action: Action[SimulatedRequest]) -> None:
        if isinstance(action, Refuse):
            ages_ms.append((now_ns - action.request.arrived_ns) / MS)

    play([FP32], [poisson(load * CAPACITY)], noisy=True, watch=watch, stalls=stalls, seconds=30, quantile=P99)
    return sorted(ages_ms)


@pytest.mark.parametrize("load", [1.65, 3.0])
@pytest.mark.parametrize("stalls", [(0.0, 0.0, 0.0), RESTLESS])
def test_nearly_everybody_who_is_refused_is_refused_at_once(load: float, stalls: Stalls) -> None:
    ages_ms = refusal_ages_ms(load, stalls)
    assert ages_ms[int(0.985 * len(ages_ms))] <= 5.0


@pytest.mark.parametrize(("load", "kept"), [(0.9, 0.87), (1.65, 0.77), (3.0, 0.8)])
def test_stalls_do_not_make_batches_so_small_that_capacity_is_lost(load: float, kept: float) -> None:
    calm, _ = play([FP32], [poisson(load * CAPACITY)], noisy=True, seconds=30, quantile=P99)
    rough, _ = play([FP32], [poisson(load * CAPACITY)], noisy=True, seconds=30, stalls=ROUGH, quantile=P99)
    # 4 % of the batches stall for 25 ms on average, of some 30 ms that a batch takes: 3 %, and whom that makes late.
    assert rough.goodput_per_s > kept * calm.goodput_per_s


def test_what_is_refused_early_so_that_less_is_refused_late_costs_hardly_any_goodput() -> None:
    outcome, _ = play([FP32], [poisson(1.65 * CAPACITY)], noisy=True, seconds=30, quantile=P99)
    assert outcome.goodput_per_s > 0.95 * CAPACITY


def test_beyond_what_the_cheapest_variant_holds_no_dearer_one_takes_its_time() -> None:
    alone, _ = play([INT8], [poisson(1.3 * capacity_per_s(INT8, 2, 60.0))], noisy=True)
    beside, _ = play([FP32, INT8], [poisson(1.3 * capacity_per_s(INT8, 2, 60.0))], noisy=True)
    assert beside.goodput_per_s > 0.98 * alone.goodput_per_s


@pytest.mark.parametrize("slowdown", [0.5, 1.5])
def test_a_machine_of_another_pace_is_not_taken_for_one_that_stalls(slowdown: float) -> None:
    told, _ = play([FP32], [poisson(0.8 * CAPACITY / slowdown)], noisy=True, seconds=30, pace=slowdown)
    name, base_ms, each_ms, accuracy = FP32
    known, _ = play(
        [(name, base_ms * slowdown, each_ms * slowdown, accuracy)],
        [poisson(0.8 * CAPACITY / slowdown)],
        noisy=True,
        seconds=30,
    )
    assert told.attainment > known.attainment - 0.02
