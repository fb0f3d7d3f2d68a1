"""A profile answers from what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidConfiguration, LatencyPoint, Profile


def profile(*points: tuple[int, float]) -> Profile:
    latency = tuple(LatencyPoint(rows, p50, 1.1 * p50, 1.2 * p50, samples=30) for rows, p50 in points)
    return Profile("fp32", 1, "host", latency, memory_bytes=0, load_ms=1.0, warmup_ms=1.0)


def test_the_best_batch_is_the_smallest_that_is_nearly_as_fast_as_the_fastest() -> None:
    assert profile((1, 10.0), (8, 20.0), (16, 39.0), (32, 100.0)).best.rows == 8


def test_a_size_between_measurements_takes_the_next_larger_one() -> None:
    assert profile((1, 10.0), (8, 20.0)).p95_ms(3) == pytest.approx(22.0)


def test_a_size_beyond_the_measurements_grows_with_its_rows() -> None:
    assert profile((1, 10.0), (8, 20.0)).p95_ms(16) == pytest.approx(44.0)


@pytest.mark.parametrize("rows", [(), (0,), (2, 1), (1, 1)])
def test_batch_sizes_ascend_from_one(rows: tuple[int, ...]) -> None:
    with pytest.raises(InvalidConfiguration, match="ascend"):
        profile(*((count, 1.0) for count in rows))


@given(st.lists(st.tuples(st.integers(1, 512), st.floats(0.01, 1e4)), min_size=1, unique_by=lambda point: point[0]))
def test_best_is_measured_and_within_three_per_cent(points: list[tuple[int, float]]) -> None:
    made = profile(*sorted(points))
    top = max(point.rows_per_s for point in made.latency)
    assert made.best in made.latency
    assert made.best.rows_per_s >= 0.97 * top
