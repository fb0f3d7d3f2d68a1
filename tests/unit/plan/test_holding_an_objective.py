"""What the scheduler promises, in simulated time: exact where laws are exact, compared where they are not."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import FP32, INT8, MS, SMALL, Law, capacity_per_s, play, poisson

from setpoint.plan import ArrivalKind, Arrivals, SimulatedRequest, Traffic, parse_arrivals
from setpoint.scheduling import Action, Reason, Refuse, Start

CAPACITY = capacity_per_s(FP32, 2, 60.0)
LAWS = ([FP32], [FP32, INT8], [FP32, INT8, SMALL])


@settings(max_examples=25, deadline=None)
@given(
    laws=st.sampled_from(LAWS),
    load=st.floats(0.2, 4.0),
    workers=st.integers(1, 4),
    deadline_ms=st.sampled_from([0.0, 0.0, 25.0, 45.0]),
    rows=st.integers(1, 3),
    arrivals=st.sampled_from(["poisson", "burst", "gamma:3", "constant"]),
    seed=st.integers(0, 10_000),
)
def test_with_exact_run_times_nothing_that_was_started_is_late(
    laws: list[Law], load: float, workers: int, deadline_ms: float, rows: int, arrivals: str, seed: int
) -> None:
    traffic = [
        Traffic(parse_arrivals(arrivals), load * CAPACITY / rows, "", rows),
        Traffic(parse_arrivals(arrivals), 0.2 * CAPACITY, "", 1, int(deadline_ms * MS)),
    ]
    outcome, scheduler = play(laws, traffic, workers=workers, seed=seed, seconds=3.0)
    refused = sum(outcome.refused.values())
    assert outcome.attainment == pytest.approx(outcome.answered / outcome.offered)
    assert outcome.answered + refused == outcome.offered
    assert scheduler.waiting_requests == scheduler.running_requests == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_of_thousands_at_once_those_are_let_in_that_will_be_in_time(workers: int, lanes: int) -> None:
    at_once = Arrivals(ArrivalKind.RECORDED, times_ns=tuple(range(2000)))
    traffic = [Traffic(at_once, 0.0, lane=lane) for lane in range(lanes)]
    outcome, _ = play([("quick", 1.0, 0.1, 1.0)], traffic, workers=workers, seconds=1.0)
    assert set(outcome.refused) == {Reason.OVERLOAD}
    assert outcome.attainment == outcome.answered / outcome.offered
    # A full batch takes 7.4 ms: each worker has time for eight within 60 ms, the first and the last hardly used.
    assert outcome.answered > 6 * 56 * workers


@settings(max_examples=15, deadline=None)
@given(
    law=st.sampled_from([FP32, INT8, SMALL]),
    load=st.floats(0.1, 0.5),
    workers=st.integers(2, 6),
    seed=st.integers(0, 10_000),
)
def test_below_half_of_what_one_variant_can_hold_nobody_is_refused(
    law: Law, load: float, workers: int, seed: int
) -> None:
    outcome, _ = play(
        [law], [poisson(load * capacity_per_s(law, workers, 60.0))], workers=workers, seed=seed, seconds=5
    )
    assert outcome.attainment == 1.0
    assert outcome.refused == {}


def test_batches_are_in_the_order_of_deadlines_and_workers_hold_one_at_a_time() -> None:
    busy_until: Counter[int] = Counter()

    def watch(now_ns: int, action: Action[SimulatedRequest]) -> None:
        if isinstance(action, Start):
            deadlines = [request.deadline_ns for request in action.requests]
            assert deadlines == sorted(deadlines)
            assert busy_until[action.worker] <= now_ns
            busy_until[action.worker] = now_ns + action.predicted_ns

    # Laws are exact, so a batch lasts as predicted.
    play([FP32, INT8], [poisson(CAPACITY), poisson(CAPACITY, deadline_ms=30)], watch=watch)
    assert len(busy_until) == 2


def test_twice_the_times_and_twice_the_objective_give_the_same_outcome() -> None:
    once, _ = play([FP32], [poisson(1.1 * CAPACITY)], seconds=10.0)
    twice, _ = play([FP32], [poisson(0.55 * CAPACITY)], seconds=20.0, scale=2.0)
    assert twice.offered == once.offered
    assert twice.answered == pytest.approx(
        once.answered, rel=0.01
    )  # demand is averaged over seconds, which do not scale
    assert twice.p50_ms == pytest.approx(2 * once.p50_ms, rel=0.05)


@pytest.mark.parametrize("load", [0.7, 1.5, 3.0])
@pytest.mark.parametrize(("fewer", "more"), [([INT8], [FP32, INT8]), ([INT8, SMALL], [FP32, INT8, SMALL])])
def test_a_slower_and_more_accurate_variant_costs_no_attainment_and_improves_answers(
    fewer: list[Law], more: list[Law], load: float
) -> None:
    without, _ = play(fewer, [poisson(load * CAPACITY)], noisy=True)
    with_it, _ = play(more, [poisson(load * CAPACITY)], noisy=True)
    assert with_it.attainment >= without.attainment - 0.01
    assert with_it.mean_accuracy >= without.mean_accuracy - 0.0005


@pytest.mark.parametrize("load", [0.7, 1.5, 3.0])
def test_more_workers_never_answer_less(load: float) -> None:
    goodput = [play([FP32], [poisson(load * CAPACITY)], workers=workers)[0].goodput_per_s for workers in (1, 2, 3, 4)]
    assert goodput == sorted(goodput)


def test_accuracy_is_given_up_only_as_the_load_grows() -> None:
    loads = (0.3, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
    accuracies = [play([FP32, INT8, SMALL], [poisson(load * CAPACITY)], noisy=True)[0].mean_accuracy for load in loads]
    assert accuracies[0] == pytest.approx(0.80)
    for lighter, heavier in itertools.pairwise(accuracies):
        assert heavier <= lighter + 0.0005


def test_three_variants_hold_three_times_what_the_first_one_can() -> None:
    outcome, _ = play([FP32, INT8, SMALL], [poisson(3 * CAPACITY)], noisy=True)
    assert outcome.attainment >= 0.99
    assert outcome.mean_accuracy >= 0.775


@pytest.mark.parametrize("quiet_share", [0.1, 0.3, 0.45])
def test_a_tenant_at_ten_times_its_share_hardly_moves_a_quiet_ones_latency(quiet_share: float) -> None:
    quiet = poisson(quiet_share * CAPACITY, "quiet")
    beside, _ = play([FP32], [quiet, poisson(0.5 * CAPACITY, "noisy")], noisy=True, seconds=30)
    under, _ = play([FP32], [quiet, poisson(5.0 * CAPACITY, "noisy")], noisy=True, seconds=30)
    before, after = beside.tenants["quiet"], under.tenants["quiet"]
    assert after.offered == before.offered
    assert after.p99_ms < 1.2 * before.p99_ms
    assert after.answered_in_time > 0.98 * before.answered_in_time
    assert under.tenants["noisy"].answered_in_time < 0.2 * under.tenants["noisy"].offered


@pytest.mark.parametrize(("law", "shared"), [(FP32, False), (("accelerator", 20.0, 0.2, 0.8), True)])
def test_who_crowds_the_queue_shares_a_quiet_tenants_batches_only_where_that_hardly_makes_them_longer(
    law: Law, shared: bool
) -> None:
    quiet = mixed = 0

    def look(now_ns: int, action: Action[SimulatedRequest]) -> None:
        nonlocal quiet, mixed
        if now_ns > 2_000 * MS and isinstance(action, Start):
            tenants = {request.tenant for request in action.requests}
            quiet += "quiet" in tenants
            mixed += len(tenants) == 2

    held = capacity_per_s(law, 2, 60.0)
    play([law], [poisson(0.2 * held, "quiet"), poisson(5 * held, "noisy")], seconds=10, watch=look)
    assert quiet > 100
    assert (mixed > 0.9 * quiet) if shared else (mixed < 0.05 * quiet)


def test_a_tenant_of_three_times_the_weight_is_answered_about_three_times_as_often() -> None:
    greedy = [poisson(3 * CAPACITY, "heavy"), poisson(3 * CAPACITY, "light")]
    outcome, _ = play([FP32], greedy, noisy=True, seconds=30, weights={"heavy": 3.0})
    ratio = outcome.tenants["heavy"].answered_in_time / outcome.tenants["light"].answered_in_time
    assert 2.2 < ratio < 3.8


def test_overload_is_refused_within_a_millisecond_of_arrival() -> None:
    ages_ms: list[float] = []

    def watch(now_ns: int, action: Action[SimulatedRequest]) -> None:
        if isinstance(action, Refuse):
            ages_ms.append((now_ns - action.request.arrived_ns) / MS)

    play([FP32], [poisson(3 * CAPACITY)], noisy=True, watch=watch)
    assert sum(age < 1 for age in ages_ms) > 0.95 * len(ages_ms)


def test_a_lost_worker_costs_some_refusals_and_no_request_its_answer() -> None:
    outcome, scheduler = play([FP32], [poisson(0.5 * CAPACITY)], lost_at_s=(2.0, 4.0, 6.0), seconds=10)
    assert outcome.answered + sum(outcome.refused.values()) == outcome.offered
    assert outcome.attainment > 0.9
    assert scheduler.pool.workers == 2
