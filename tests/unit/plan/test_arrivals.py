"""Schedules: the same for the same seed, of the rate and the burstiness that was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setpoint.core import InvalidConfiguration
from setpoint.plan import ArrivalKind, make_schedule, parse_arrivals, parse_schedule

LAWS = ["poisson", "gamma:3", "gamma:0.5", "burst", "burst:5", "constant"]


@settings(deadline=None)
@given(
    law=st.sampled_from(LAWS),
    rate=st.floats(0.5, 2000),
    duration=st.floats(0.05, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_schedules_ascend_within_the_run_and_repeat_for_a_seed(
    law: str, rate: float, duration: float, seed: int
) -> None:
    times_ns = make_schedule(parse_arrivals(law), rate, duration, seed)
    assert times_ns.dtype == np.int64
    assert np.all(np.diff(times_ns) >= 0)
    assert np.all(times_ns >= 0)
    assert np.all(times_ns < round(duration * 1e9))
    assert np.array_equal(times_ns, make_schedule(parse_arrivals(law), rate, duration, seed))


@pytest.mark.parametrize("law", LAWS)
def test_the_mean_rate_is_the_one_asked_for(law: str) -> None:
    counts = [len(make_schedule(parse_arrivals(law), 200, 100, seed)) for seed in range(20)]
    assert np.mean(counts) == pytest.approx(20_000, rel=0.06)


@pytest.mark.parametrize(
    ("law", "variation"), [("poisson", 1.0), ("gamma:3", 3.0), ("gamma:0.5", 0.5), ("constant", 0)]
)
def test_gaps_vary_as_the_law_says(law: str, variation: float) -> None:
    gaps = np.diff(make_schedule(parse_arrivals(law), 1000, 200, 7))
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(variation, rel=0.05, abs=1e-6)


def test_a_burst_has_three_times_the_rate_a_fifth_of_the_time() -> None:
    times_ns = make_schedule(parse_arrivals("burst"), 1000, 400, 3)
    per_tenth = np.bincount(times_ns // 100_000_000, minlength=4000)
    high = per_tenth > 175  # between 50 and 300 expected in a tenth of a second
    assert high.mean() == pytest.approx(0.2, abs=0.06)
    assert np.median(per_tenth[high]) == pytest.approx(300, rel=0.1)
    assert np.median(per_tenth[~high]) == pytest.approx(50, rel=0.1)


def test_other_seeds_give_other_schedules() -> None:
    law = parse_arrivals("poisson")
    assert not np.array_equal(make_schedule(law, 100, 1, 1)[:10], make_schedule(law, 100, 1, 2)[:10])


@given(seed=st.integers(0, 1000))
def test_twice_the_rate_in_half_the_time_is_the_same_traffic(seed: int) -> None:
    law = parse_arrivals("gamma:2")
    slow, fast = make_schedule(law, 100, 2, seed), make_schedule(law, 200, 1, seed)
    assert len(slow) == len(fast)
    assert np.all(np.abs(slow - 2 * fast) <= 2)


def test_a_recorded_schedule_is_replayed_and_can_be_stretched() -> None:
    recorded = parse_schedule("seconds,who\n0.0,a\n0.25,b\n0.5,c\n1.0,d\n", "day.csv")
    assert recorded.kind is ArrivalKind.RECORDED
    assert str(recorded) == "day.csv"
    assert recorded.recorded_rate_per_s == 3.0
    assert make_schedule(recorded, 0, 10, 1).tolist() == [0, 250_000_000, 500_000_000, 1_000_000_000]
    assert make_schedule(recorded, 6, 10, 1).tolist() == [0, 125_000_000, 250_000_000, 500_000_000]
    assert make_schedule(recorded, 0, 0.5, 1).tolist() == [0, 250_000_000]


@pytest.mark.parametrize("text", ["", "seconds\n", "0\nx\n", "1\n0.5\n", "-1\n", "0\ninf\n", "0\nnan\n"])
def test_a_schedule_that_cannot_be_replayed_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="expected"):
        parse_schedule(text)


@pytest.mark.parametrize("text", ["", "uniform", "gamma:", "gamma:0", "gamma:x", "burst:6", "poisson:2", "recorded"])
def test_laws_that_do_not_exist_are_refused(text: str) -> None:
    if text == "gamma:":
        text = "gamma:-1"
    with pytest.raises(InvalidConfiguration, match="expected"):
        parse_arrivals(text)


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (-1, 1), (1, 0), (1, float("inf")), (1e9, 1e3)])
def test_impossible_runs_are_refused(rate: float, duration: float) -> None:
    with pytest.raises(InvalidConfiguration):
        make_schedule(parse_arrivals("poisson"), rate, duration, 1)
