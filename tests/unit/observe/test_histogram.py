"""Histograms are at most 1 % off, exact at the bounds that people state, and sums of two are the histogram of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.observe import Histogram, merged
from setpoint.observe.histogram import LATENCY_BOUNDS_NS, RATIO_BOUNDS_PPM

durations_ns = st.integers(0, 10**13)
stated = st.builds(lambda digits, power: digits * 10**power, st.integers(1, 99), st.integers(0, 12))


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations_ns)
def test_a_bucket_ends_at_or_behind_its_value_and_is_narrow(value: int) -> None:
    ((highest, times),) = histogram_of([value]).rows()
    assert times == 1
    assert value <= highest
    assert highest - value < max(1, value / 64)


@given(st.lists(durations_ns), stated)
def test_counts_are_exact_at_every_bound_of_two_digits(values: list[int], bound: int) -> None:
    values = [*values, bound - 1, bound, bound + 1]
    (found,) = histogram_of(values).buckets([bound]).cumulative
    assert found == (bound, sum(value <= bound for value in values))


@given(st.lists(durations_ns), st.sampled_from([LATENCY_BOUNDS_NS, RATIO_BOUNDS_PPM]))
def test_counts_are_exact_at_the_bounds_in_use(values: list[int], bounds: tuple[int, ...]) -> None:
    values = values + [bound + step for bound in bounds for step in (-1, 0, 1)]
    buckets = histogram_of(values).buckets(bounds)
    assert list(bounds) == sorted(set(bounds))
    assert buckets.cumulative == tuple((bound, sum(value <= bound for value in values)) for bound in bounds)
    assert (buckets.count, buckets.total) == (len(values), sum(values))


@given(st.lists(durations_ns, min_size=1, max_size=300), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles_are_at_most_one_per_cent_off(values: list[int], share: float) -> None:
    exact = int(np.quantile(np.array(values), share, method="inverted_cdf"))
    assert histogram_of(values).quantile(share) == pytest.approx(exact, rel=0.01, abs=0)


@given(st.lists(durations_ns), st.lists(durations_ns))
def test_the_sum_of_two_is_the_histogram_of_both(some: list[int], others: list[int]) -> None:
    both, together = merged([histogram_of(some), histogram_of(others)]), histogram_of(some + others)
    assert (both.counts, both.total, both.max) == (together.counts, together.total, together.max)
    assert both.percentiles() == together.percentiles()


@given(st.lists(durations_ns), st.lists(durations_ns))
def test_rows_of_two_can_be_added_bucket_by_bucket(some: list[int], others: list[int]) -> None:
    """What several nodes say in their statistics adds up without knowing how the buckets are made."""
    added: dict[int, int] = {}
    for highest, times in histogram_of(some).rows() + histogram_of(others).rows():
        added[highest] = added.get(highest, 0) + times
    assert sorted(added.items()) == histogram_of(some + others).rows()


def test_an_empty_one_has_no_percentiles() -> None:
    assert Histogram().percentiles() is None
    assert Histogram().quantile(0.5) == 0
    assert Histogram().buckets([10]).cumulative == ((10, 0),)


def test_mean_and_maximum_are_exact_and_rows_hold_every_value() -> None:
    found = histogram_of([1_000_000, 2_000_000, 6_000_001]).percentiles()
    assert found is not None
    assert (found.count, found.mean_ms, found.max_ms) == (3, 9_000_001 / 3 / 1e6, 6.000001)
    assert sum(times for _, times in histogram_of([5, 5, 7_000_000]).rows()) == 3


def test_a_time_before_its_beginning_counts_as_none() -> None:
    assert histogram_of([-5, 0]).rows() == [(0, 2)]


@given(st.lists(st.integers(-(10**6), 10**12), min_size=1), st.integers(-5, 10**9), st.integers(1, 40))
def test_adding_many_at_once_is_adding_each(values: list[int], value: int, times: int) -> None:
    together, each = Histogram(), Histogram()
    together.add_all(values)
    together.add(value, times)
    for one in (*values, *[value] * times):
        each.add(one)
    assert (together.counts, together.total, together.max) == (each.counts, each.total, each.max)
