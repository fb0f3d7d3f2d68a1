"""A loop that stood still shows as many bad beats as it missed."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from setpoint.observe import LoopLag, render

MS = 1_000_000


def test_beats_slept_through_count_with_the_lag_that_they_had() -> None:
    lag = LoopLag(10 * MS, 10 * MS)
    lag.woke(10 * MS)
    lag.woke(60 * MS)  # those due at 20, 30, 40, 50 and 60
    lag.woke(70 * MS)
    found = lag.last_minute()
    assert found is not None
    assert (found.count, found.max_ms, found.mean_ms) == (7, 40.0, pytest.approx(100 / 7))


def test_waking_early_is_no_beat() -> None:
    lag = LoopLag(10 * MS, 10 * MS)
    lag.woke(9 * MS)
    assert lag.last_minute() is None


def test_a_machine_that_slept_for_a_week_does_not_keep_the_loop_busy_now() -> None:
    lag = LoopLag(10 * MS, 10 * MS)
    lag.woke(7 * 86_400_000 * MS)
    found = lag.last_minute()
    assert found is not None
    assert found.count <= 4001


def test_the_histogram_reads_back() -> None:
    lag = LoopLag(10 * MS, 10 * MS)
    lag.woke(25 * MS)
    (family,) = text_string_to_metric_families(render(lag.families()).decode())
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values["setpoint_event_loop_lag_seconds_count", None] == 2
    assert values["setpoint_event_loop_lag_seconds_bucket", "0.005"] == 1
    assert values["setpoint_event_loop_lag_seconds_bucket", "0.015"] == 2
