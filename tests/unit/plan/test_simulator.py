"""The simulator against what can be known without it."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import FP32, capacity_per_s, play, poisson

from setpoint.core import InvalidConfiguration
from setpoint.plan import (
    AffineRunTimes,
    AimdPolicy,
    CorkPolicy,
    EagerPolicy,
    Fleet,
    MeasuredRunTimes,
    Outcome,
    SimulatedRequest,
    Traffic,
    parse_arrivals,
    parse_law,
    simulate,
    unbatched,
    window,
)
from setpoint.scheduling import Policy, Scheduler

BOUND_NS = 60_000_000


def serve(
    policy: Policy[SimulatedRequest],
    rate_per_s: float,
    law: AffineRunTimes,
    arrivals: str = "poisson",
    seconds: float = 50.0,
    request_ns: int = 0,
) -> Outcome:
    fleet = Fleet(1, ("fp32",), (1.0,), (law,), request_ns=request_ns)
    traffic = [Traffic(parse_arrivals(arrivals), rate_per_s)]
    return simulate(Scheduler(policy), fleet, traffic, bound_ns=BOUND_NS, duration_s=seconds, seed=3)


def exact(base_ms: float, each_ms: float) -> AffineRunTimes:
    return AffineRunTimes(base_ms, each_ms, np.random.default_rng(0), sigma=0.0, straggler_share=0.0)


def test_one_worker_and_no_batches_is_the_queue_of_the_textbook() -> None:
    outcome = serve(unbatched(10**12), 80.0, exact(10.0, 0.0), seconds=200.0)
    assert outcome.utilisation == pytest.approx(0.8, rel=0.02)
    assert outcome.offered == outcome.answered
    # The median of M/D/1 at 0.8 is between one and three services, its p99 about ten.
    assert 10 < outcome.p50_ms < 40
    assert 70 < outcome.p99_ms < 160


def test_evenly_spaced_requests_that_fit_are_answered_in_one_run_time_each() -> None:
    outcome = serve(unbatched(BOUND_NS), 90.0, exact(2.0, 8.0), "constant")
    assert (outcome.attainment, outcome.p50_ms, outcome.p99_ms) == (1.0, 10.0, 10.0)


def test_what_requests_cost_beside_their_runs_is_taken_from_workers_that_have_all_cores() -> None:
    free = serve(unbatched(BOUND_NS), 90.0, exact(10.0, 0.0), "constant")
    alone = serve(unbatched(BOUND_NS), 90.0, exact(10.0, 0.0), "constant", request_ns=2_000_000)
    assert (free.p50_ms, alone.p50_ms) == (10.0, 10.0), "nobody arrives while one runs"
    crowded = serve(unbatched(BOUND_NS), 200.0, exact(10.0, 0.0), "constant", request_ns=2_000_000)
    # Of each second 200 requests take 0.4 s, so that 60 runs of 10 ms are left.
    assert crowded.answered / crowded.duration_s == pytest.approx(60.0, rel=0.03)


def test_equal_seeds_give_equal_outcomes_and_other_seeds_other_ones() -> None:
    runs = [play([FP32], [poisson(150)], seed=seed, noisy=True, seconds=5)[0] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_another_tenant_changes_nothing_of_when_the_first_ones_requests_come() -> None:
    alone, _ = play([FP32], [poisson(50, "a")], seconds=5)
    beside, _ = play([FP32], [poisson(50, "a"), poisson(50, "b")], seconds=5)
    assert alone.tenants["a"].offered == beside.tenants["a"].offered


def test_a_simulated_profile_states_the_quantiles_of_what_is_drawn() -> None:
    rng = np.random.default_rng(1)
    law = AffineRunTimes(2.0, 8.0, rng)
    point = next(point for point in law.profile("fp32", rng).latency if point.rows == 4)
    drawn = sorted(law.sample_ns(4) / 1e6 for _ in range(4000))
    assert point.p50_ms == pytest.approx(drawn[2000], rel=0.02)
    assert point.p95_ms == pytest.approx(drawn[3800], rel=0.03)


def test_run_times_drawn_from_a_profile_have_its_median_and_p95_also_between_its_sizes() -> None:
    rng = np.random.default_rng(1)
    profile = AffineRunTimes(2.0, 8.0, rng).profile("fp32", rng)
    run_times = MeasuredRunTimes(profile, np.random.default_rng(2))
    for rows, expected_ms in ((4, 34.0), (5, 42.0), (128, 2 * (2 + 8 * 64))):
        drawn = sorted(run_times.sample_ns(rows) / 1e6 for _ in range(4000))
        assert drawn[2000] == pytest.approx(expected_ms, rel=0.03)
        assert drawn[3800] / drawn[2000] == pytest.approx(1.104, rel=0.03)


def test_todays_servers_collapse_where_deadline_order_keeps_serving() -> None:
    rng = np.random.default_rng(1)
    profile = AffineRunTimes(2.0, 8.0, rng).profile("fp32", rng)
    rate = 1.5 * capacity_per_s(FP32, 1, 60.0)

    def goodput(policy: Policy[SimulatedRequest]) -> float:
        return serve(policy, rate, AffineRunTimes(2.0, 8.0, np.random.default_rng(5))).goodput_per_s

    fixed = [
        goodput(unbatched(BOUND_NS)),
        goodput(window(8, 5, BOUND_NS)),
        goodput(AimdPolicy(BOUND_NS, 64, BOUND_NS // 2)),
    ]
    cork = goodput(CorkPolicy(BOUND_NS, 64))
    hopeless = goodput(EagerPolicy(profile, BOUND_NS, 64, 1.15))
    target = goodput(EagerPolicy(profile, BOUND_NS, 64, 1.15, target_rows=3))
    assert max(fixed) < 0.5 * cork
    assert cork < 1.1 * hopeless
    assert hopeless < target


def test_laws_are_read_with_their_unit() -> None:
    assert parse_law("2+8b ms") == (2.0, 8.0)
    assert parse_law("150 + 2*b us") == pytest.approx((0.15, 0.002))
    with pytest.raises(InvalidConfiguration, match=r"'8b' is not understood; expected such as '2\+8b ms'"):
        parse_law("8b")
