"""What a profile is said to hold is what the scheduler holds in simulated time."""

import numpy as np
import pytest

from setpoint.core import Objective, Signature, TensorSpec
from setpoint.optimize.forecast import forecast, outcome_at
from setpoint.optimize.study import Point
from setpoint.optimize.surroundings import Surroundings, surroundings_of

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


@pytest.mark.parametrize(("processors", "waits_ms"), [(1, 1.4), (2, 2.8), (64, 5.6)])
def test_the_slowest_answers_wait_for_a_core_but_not_beyond_the_bound(
    entry, monkeypatch: pytest.MonkeyPatch, processors: int, waits_ms: float
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    (measured,) = entry("fp32", {1: 4.0}, layouts=((1, 1),)).measured
    point, at_ease = Point("fp32", 1, 1, 1, 0.0, 0.0, 1.0), Surroundings(0, 0)
    roomy, tight = (
        outcome_at(1.0, point, measured.profile, Objective.parse(goal), 1, at_ease).p99_ms
        for goal in ("p99<=60ms", "p99<=5ms")
    )
    run_ms = roomy - waits_ms
    assert 4.0 <= run_ms < 5.0
    assert tight == pytest.approx(min(run_ms + waits_ms, 5.0), abs=0.01)


def test_a_tiny_model_is_held_back_by_the_node_and_not_by_its_arithmetic(entry) -> None:
    goal = Objective.parse("p99<=10ms")
    (measured,) = entry("fp32", {1: 0.05, 64: 0.15}, layouts=((2, 1),)).measured
    point = Point("fp32", 2, 1, 1, 0.0, 0.0, 1.0)
    rates = [
        forecast(point, measured.profile, goal, 64, Surroundings(request_ns, 80_000)).rate_per_s
        for request_ns in (20_000, 40_000)
    ]
    assert rates[0] <= 0.7 * 1e9 / 20_000
    assert rates[1] == pytest.approx(rates[0] / 2, rel=0.15)


def test_what_others_take_of_the_cores_is_not_held(entry) -> None:
    goal = Objective.parse("p99<=60ms")
    (measured,) = entry("fp32", {1: 1.0, 16: 4.0}, layouts=((2, 1),)).measured
    point = Point("fp32", 2, 1, 1, 0.0, 0.0, 1.0)
    alone, beside = (
        forecast(point, measured.profile, goal, 16, Surroundings(20_000, 80_000, beside_ns)).rate_per_s
        for beside_ns in (0, 200_000)
    )
    assert 0.4 * alone < beside < 0.8 * alone


def test_longer_rows_cost_the_node_more() -> None:
    short, long = (
        surroundings_of(
            Signature((TensorSpec("x", "FP32", (-1, width)),), (TensorSpec("y", "FP32", (-1, 1)),), batched=True),
            [np.linspace(0, 1, 3 * width, dtype=np.float32).reshape(3, width)],
        )
        for width in (1, 20_000)
    )
    assert long.request_ns > 2 * short.request_ns
    assert long.batch_ns == short.batch_ns


def test_words_and_half_floats_have_the_cost_of_any_request() -> None:
    for datatype in ("BYTES", "FP16"):
        specs = ((TensorSpec("x", datatype, (-1, 1)),), (TensorSpec("y", "FP32", (-1, 1)),))
        signature = Signature(*specs, batched=True)
        assert surroundings_of(signature, [np.zeros((1, 1), np.float16)]) == Surroundings()
