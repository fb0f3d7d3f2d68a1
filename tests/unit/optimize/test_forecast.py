"""What a profile is said to hold is what the scheduler holds in simulated time."""

import pytest

from setpoint.core import Objective
from setpoint.optimize.forecast import forecast
from setpoint.optimize.study import Point

GOAL = Objective.parse("p99<=60ms, drop<=1%")


def held(entry, ms: dict[int, float], goal: Objective = GOAL, workers: int = 1) -> Point:
    (measured,) = entry("fp32", ms, layouts=((workers, 1),)).measured
    return forecast(Point("fp32", workers, 1, 1, 0.0, 0.0, 1.0), measured.profile, goal, 64)


def test_it_lies_between_what_one_row_at_a_time_gives_and_the_best_batch(entry) -> None:
    point = held(entry, {1: 4.0, 4: 7.0, 16: 19.0})
    assert 1000 / 4.0 < point.rate_per_s < 16 / 19.0 * 1000
    assert 1 < point.rows <= 16
    assert 30.0 < point.latency_ms <= 60.0


def test_twice_the_workers_hold_about_twice_as_much(entry) -> None:
    one, two = (held(entry, {1: 4.0, 4: 7.0, 16: 19.0}, workers=workers) for workers in (1, 2))
    assert two.rate_per_s / one.rate_per_s == pytest.approx(2.0, rel=0.2)


def test_a_looser_bound_holds_more(entry) -> None:
    rates = [
        held(entry, {1: 4.0, 4: 7.0, 16: 19.0}, Objective.parse(f"p99<={bound}ms")).rate_per_s
        for bound in (12, 30, 120)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 0.8 * rates[2]


def test_what_no_batch_keeps_is_held_at_no_rate(entry) -> None:
    point = held(entry, {1: 80.0, 4: 200.0})
    assert (point.rate_per_s, point.rows) == (0.0, 0)
