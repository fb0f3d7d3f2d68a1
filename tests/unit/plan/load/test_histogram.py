"""The latency histogram is at most 1 % off, and sums of two are the histogram of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.plan.load.histogram import LatencyHistogram, bucket_bounds_ns, bucket_of, merged

durations_ns = st.integers(0, 10**13)


def histogram_of(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(durations_ns)
def test_a_bucket_holds_its_values_and_is_narrow(value: int) -> None:
    low, high = bucket_bounds_ns(bucket_of(value))
    assert low <= value < high
    assert high - low == 1 or (high - low) / low <= 1 / 64


@given(st.integers(0, 2000))
def test_buckets_leave_no_gap(bucket: int) -> None:
    low, high = bucket_bounds_ns(bucket)
    assert bucket_of(low) == bucket_of(high - 1) == bucket
    assert bucket_of(high) == bucket + 1


@given(st.lists(durations_ns, min_size=1, max_size=300), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles_are_at_most_one_per_cent_off(values: list[int], share: float) -> None:
    exact = int(np.quantile(np.array(values), share, method="inverted_cdf"))
    assert histogram_of(values).quantile_ns(share) == pytest.approx(exact, rel=0.01, abs=0)


@given(st.lists(durations_ns), st.lists(durations_ns))
def test_the_sum_of_two_is_the_histogram_of_both(some: list[int], others: list[int]) -> None:
    both, together = merged([histogram_of(some), histogram_of(others)]), histogram_of(some + others)
    assert (both.counts, both.count, both.total_ns, both.max_ns) == (
        together.counts,
        together.count,
        together.total_ns,
        together.max_ns,
    )
    assert both.percentiles() == together.percentiles()


def test_an_empty_one_has_no_percentiles() -> None:
    assert LatencyHistogram().percentiles() is None
    assert LatencyHistogram().quantile_ns(0.5) == 0


def test_mean_and_maximum_are_exact_and_rows_hold_every_value() -> None:
    found = histogram_of([1_000_000, 2_000_000, 6_000_001]).percentiles()
    assert found is not None
    assert (found.count, found.mean_ms, found.max_ms) == (3, 9_000_001 / 3 / 1e6, 6.000001)
    assert sum(times for _, times in histogram_of([5, 5, 7_000_000]).rows()) == 3
