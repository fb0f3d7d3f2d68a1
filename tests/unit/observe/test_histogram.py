"""Histograms: what was added is counted once, sums are exact, quantiles lie where the values lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.observe import Histogram
from setpoint.observe.histogram import LATENCY_BOUNDS_NS, ROW_BOUNDS

BOUNDS = (1, 2, 5, 10, 100)
values = st.lists(st.integers(0, 200), max_size=50)


def filled(added: list[int]) -> Histogram:
    histogram = Histogram(BOUNDS)
    for value in added:
        histogram.add(value)
    return histogram


@given(values)
def test_every_value_is_in_the_bucket_of_the_first_bound_it_does_not_pass(added: list[int]) -> None:
    histogram = filled(added)
    lows = (-1, *BOUNDS)
    highs = (*BOUNDS, float("inf"))
    expected = [sum(low < value <= high for value in added) for low, high in zip(lows, highs, strict=True)]
    assert histogram.counts == expected
    assert (histogram.total, histogram.count) == (sum(added), len(added))


@given(values, values)
def test_the_merged_histogram_is_that_of_all_values(left: list[int], right: list[int]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    both = filled(left + right)
    assert (merged.counts, merged.total, merged.count) == (both.counts, both.total, both.count)


def test_histograms_of_different_bounds_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="different bounds"):
        Histogram((1, 2)).merge(Histogram((1, 3)))


@given(values, st.integers(1, 5))
def test_adding_several_times_is_adding_each_time(added: list[int], times: int) -> None:
    histogram = Histogram(BOUNDS)
    for value in added:
        histogram.add(value, times)
    assert histogram.counts == filled(added * times).counts
    assert histogram.total == sum(added) * times


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(added: list[int], share: float) -> None:
    histogram = filled(added)
    rank = max(1, -(-share * len(added) // 1))  # the smallest number of values that are at least that share
    exact = sorted(added)[int(rank) - 1]
    bounds = (0, *BOUNDS)
    high = min(bound for bound in BOUNDS if bound >= exact)
    low = bounds[bounds.index(high) - 1]
    assert low <= histogram.quantile(share) <= high


@given(values, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_ascend(added: list[int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    histogram = filled(added)
    assert histogram.quantile(low) <= histogram.quantile(high)


def test_quantiles_of_nothing_and_of_what_is_beyond_all_bounds() -> None:
    assert Histogram(BOUNDS).quantile(0.5) == 0.0
    assert filled([10**9]).quantile(0.99) == 100.0


def test_the_bounds_in_use_ascend() -> None:
    for bounds in (LATENCY_BOUNDS_NS, ROW_BOUNDS):
        assert list(bounds) == sorted(set(bounds))
    assert LATENCY_BOUNDS_NS[0] == 50_000
    assert LATENCY_BOUNDS_NS[-1] == 60_000_000_000
