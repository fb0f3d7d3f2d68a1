"""Predictions: the profile's word at first, corrected by what is seen; targets that follow from them."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidConfiguration, LatencyPoint, Profile
from setpoint.scheduling import MeasuredLaw, ObjectiveTerms, VariantTerms, allowed_variants
from setpoint.scheduling.latency_law import LearnedLaw
from setpoint.scheduling.predictor import Predictor
from setpoint.scheduling.quantile import RollingQuantile

MS = 1_000_000


def profile(*points: tuple[int, float]) -> Profile:
    return Profile("v", 1, "test", tuple(LatencyPoint(rows, ms, ms, ms, 9) for rows, ms in points), 0, 0.0, 0.0)


def predictor(*variants: Profile | None, bound_ms: int = 60, limit: int = 64) -> Predictor:
    named = tuple(VariantTerms(str(index), 1.0, each) for index, each in enumerate(variants))
    return Predictor(ObjectiveTerms(named, bound_ms * MS, batch_limit_rows=limit))


def test_a_profile_is_read_by_straight_lines_between_its_points_and_in_proportion_beyond() -> None:
    law = MeasuredLaw.from_profile(profile((1, 10.0), (2, 12.0), (4, 20.0)), most_rows=16)
    assert [law.run_ns(rows) / MS for rows in (1, 2, 3, 4, 8, 32)] == pytest.approx([10, 12, 16, 20, 40, 160])


@given(
    times=st.lists(st.integers(1, 1000), min_size=1, max_size=6),
    budget=st.integers(-5, 20_000),
    most_rows=st.integers(1, 40),
)
def test_rows_within_a_budget_are_the_most_that_run_in_it(times: list[int], budget: int, most_rows: int) -> None:
    law = MeasuredLaw([(2**step, float(ms)) for step, ms in enumerate(times)], most_rows)
    within = law.rows_within(budget)
    assert within == max((rows for rows in range(most_rows + 1) if rows and law.run_ns(rows) <= budget), default=0)


def test_a_learned_law_finds_base_and_slope_and_never_a_negative_one() -> None:
    law = LearnedLaw(64, grow=False)
    rng = random.Random(0)
    for _ in range(200):
        rows = rng.choice((1, 2, 8, 32))
        law.observe(rows, round((2 + 0.5 * rows) * MS * rng.uniform(0.97, 1.03)))
    assert law.run_ns(0) == pytest.approx(2 * MS, rel=0.1)
    assert law.run_ns(40) == pytest.approx(22 * MS, rel=0.05)
    for rows, run_ms in ((1, 30), (64, 2)):
        law.observe(rows, run_ms * MS)
    assert 0 <= law.run_ns(1) <= law.run_ns(64)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_rolling_quantile_is_that_of_the_last_window(values: list[float], share: float) -> None:
    quantile = RollingQuantile(share, 100, 1.0, 20)
    for value in values:
        quantile.add(value)
    window = sorted(([1.0] * 20 + values)[-100:])
    assert quantile.value == window[int(share * (len(window) - 1) + 0.5)]


def test_a_slower_machine_is_believed_within_a_hundred_batches_and_only_within_bounds() -> None:
    for slowdown, expected in ((1.5, 1.5), (9.0, 9.0), (0.1, 0.1), (90.0, 50.0)):
        here = predictor(profile((1, 10.0), (8, 80.0)))
        for batch in range(100):
            here.observe("a", 0, 4, round(40 * slowdown * MS), round(40 * slowdown * MS), batch * 50 * MS)
        assert here.lane("a").variants[0].ns(8) == pytest.approx(expected * 80 * MS)


def test_a_variant_that_has_not_run_for_a_while_is_trusted_again() -> None:
    here = predictor(profile((1, 10.0), (8, 80.0)))
    for batch in range(100):
        here.observe("a", 0, 4, 400 * MS, 400 * MS, batch * 50 * MS)
    slow = here.lane("a").variants[0]
    assert slow.ns(1) == pytest.approx(100 * MS)
    here.lane("a").arrived_rows = 10_000
    for look in range(100):
        here.refresh(1, 0.1, (6_000 + look * 100) * MS)
    assert slow.ns(1) == pytest.approx(10 * MS)


def test_what_passes_around_the_run_is_added_for_every_batch_size_and_lane() -> None:
    here = predictor(profile((1, 10.0), (8, 80.0)))
    for batch in range(100):
        here.observe("a", 0, 1, 10 * MS, 13 * MS, batch * 50 * MS)
    assert here.lane("a").variants[0].ns(8) == pytest.approx(83 * MS)
    assert here.lane("b").variants[0].ns(1) == pytest.approx(13 * MS)


def test_lanes_are_corrected_apart() -> None:
    here = predictor(profile((1, 10.0)))
    for batch in range(100):
        here.observe("long", 0, 1, 20 * MS, 20 * MS, batch * 50 * MS)
    assert here.lane("long").variants[0].ns(1) == pytest.approx(20 * MS)
    assert here.lane("short").variants[0].ns(1) == pytest.approx(10 * MS)


def test_the_aim_is_the_smallest_batch_near_the_best_rate_that_fits_the_bound_twice() -> None:
    here = predictor(profile((1, 10.0), (64, 515.0)))  # 1.98 + 8.02 b ms: beyond 3 rows hardly anything is gained
    here.refresh(2, 1.0, 0)
    aim = here.lane("a").variants[0]
    assert aim.batch_rows in (3, 4)
    assert (1 + 1 / 2) * aim.ns(aim.batch_rows) <= 60 * MS
    assert aim.rows_per_s == pytest.approx(2 * aim.batch_rows / aim.ns(aim.batch_rows) * 1e9)


def test_a_model_that_gains_nothing_from_batches_is_run_one_by_one() -> None:
    assert predictor(profile((1, 5.0), (2, 10.0), (4, 20.0))).lane("a").fastest.batch_rows == 1


def test_a_model_too_slow_for_the_bound_attains_nothing_and_an_unknown_one_is_not_judged() -> None:
    assert predictor(profile((1, 70.0))).lane("a").fastest.rows_per_s == 0
    assert predictor(None).lane("a").fastest.rows_per_s == inf


def test_demand_is_the_higher_of_the_last_second_and_the_last_ten() -> None:
    here = predictor(profile((1, 1.0)))
    lane = here.lane("a")

    def second(rows: int) -> float:
        for _ in range(10):
            lane.arrived_rows += rows // 10
            here.refresh(1, 0.1, 0)
        return lane.demand_rows_per_s

    for _ in range(20):
        second(100)
    assert lane.demand_rows_per_s == pytest.approx(100, rel=0.02)
    assert second(500) > 300, "a rise shows within a second"
    assert lane.rising
    for _ in range(5):
        second(500)
    assert second(0) > 150, "a pause of a second is no reason to forget the load"


def test_variants_below_the_floor_or_neither_better_nor_faster_do_not_serve() -> None:
    best = VariantTerms("best", 0.80, profile((1, 10.0), (8, 70.0)))
    fast = VariantTerms("fast", 0.79, profile((1, 5.0), (8, 30.0)))
    useless = VariantTerms("useless", 0.785, profile((1, 11.0), (8, 75.0)))
    wrong = VariantTerms("wrong", 0.60, profile((1, 1.0), (8, 3.0)))
    assert allowed_variants((wrong, fast, useless, best), floor=0.78) == (best, fast)
    with pytest.raises(InvalidConfiguration, match=r"floor 0\.9; the best one has 0\.8"):
        allowed_variants((wrong, best), floor=0.9)


def test_choosing_between_variants_needs_a_profile_of_each() -> None:
    with pytest.raises(InvalidConfiguration, match="int8 has none: measure it first"):
        ObjectiveTerms((VariantTerms("fp32", 1.0, profile((1, 1.0))), VariantTerms("int8", 0.9)))
