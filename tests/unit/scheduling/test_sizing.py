"""The batch size settles where rows are cheapest, and no larger than needed."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from setpoint.scheduling import BatchSizer

LANE = ("predict", ())


def settle(sizer: BatchSizer, run_ns: Callable[[int], float], batches: int = 60) -> int:
    """Full batches of whatever size is asked for; returns the size that was asked for most often at the end."""
    asked = []
    for _ in range(batches):
        rows = sizer.batch_rows(LANE)
        asked.append(rows)
        sizer.observe(LANE, rows, round(run_ns(rows)))
    last = asked[-20:]
    return max(set(last), key=last.count)


def test_a_model_that_gains_all_the_way_gets_the_largest_batch() -> None:
    assert settle(BatchSizer(64), lambda rows: 8_000 + 100 * rows) == 64


def test_a_model_that_stops_gaining_gets_the_smallest_batch_that_costs_no_more() -> None:
    # All-MiniLM-L6-v2 on two cores, ms: best rows/s at 8, a tenth less at 64.
    measured_ms = {1: 3.9, 2: 6.0, 4: 9.4, 8: 17.6, 16: 36.0, 32: 75.0, 64: 155.0}
    assert settle(BatchSizer(64), lambda rows: measured_ms[rows] * 1e6) == 8


def test_a_model_without_gain_from_batching_runs_single_rows() -> None:
    assert settle(BatchSizer(64), lambda rows: 20e6 * rows) == 1


def test_stragglers_do_not_move_it() -> None:
    calls = iter(range(10**6))
    sizer = BatchSizer(64)
    assert settle(sizer, lambda rows: (20e6 + 2e6 * rows) * (8 if next(calls) % 7 == 3 else 1), batches=120) == 64


def test_it_follows_a_machine_that_changes() -> None:
    sizer = BatchSizer(32)
    assert settle(sizer, lambda rows: 30e6 * rows) == 1
    assert settle(sizer, lambda rows: 40e6 + 1e6 * rows, batches=4000) >= 16


def test_unfilled_batches_teach_nothing_about_the_limit() -> None:
    sizer = BatchSizer(64)
    for _ in range(50):
        sizer.observe(LANE, 3, 10**9)
    assert sizer.batch_rows(LANE) == 16


def test_shapes_learn_apart() -> None:
    sizer = BatchSizer(64)
    settle(sizer, lambda rows: 20e6 * rows)
    assert sizer.batch_rows(("predict", ((128,),))) == 16


@given(limit=st.integers(1, 300), runs=st.lists(st.integers(1, 10**10), max_size=200))
def test_whatever_is_observed_the_size_stays_within_one_and_the_limit(limit: int, runs: list[int]) -> None:
    sizer = BatchSizer(limit)
    for run_ns in runs:
        rows = sizer.batch_rows(LANE)
        assert 1 <= rows <= limit
        sizer.observe(LANE, rows, run_ns)
