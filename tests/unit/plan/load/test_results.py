"""Counting: every request is exactly one thing, and a generator that lags voids the run."""

from hypothesis import given
from hypothesis import strategies as st

from setpoint.plan.load.results import Tally

MS = 1_000_000


@given(st.lists(st.tuples(st.integers(0, 2_999), st.integers(0, 400), st.sampled_from("arf")), max_size=200))
def test_every_request_is_attained_late_refused_or_an_error(events: list[tuple[int, int, str]]) -> None:
    tally = Tally(50 * MS, seconds=3)
    for at_ms, latency_ms, what in events:
        tally.offered(at_ms * MS, 0)
        if what == "a":
            tally.answered(at_ms * MS, latency_ms * MS)
        elif what == "r":
            tally.refused(at_ms * MS, latency_ms * MS)
        else:
            tally.failed(at_ms * MS, "reset")
    offered, attained, late, refused, verdict = tally.totals(0.99)
    assert offered == len(events) == attained + late + refused + sum(tally.errors.values()) == tally.settled
    assert (verdict.queries, verdict.misses) == (offered, offered - attained)
    assert attained == sum(what == "a" and latency_ms <= 50 for _, latency_ms, what in events)
    assert tally.latency().count == attained + late
    assert sum(tally.second(number).offered for number in range(3)) == offered


def test_a_request_belongs_to_the_second_it_was_intended_for() -> None:
    tally = Tally(50 * MS, seconds=3)
    tally.offered(900 * MS, 0)
    tally.answered(900 * MS, 1500 * MS)
    assert (tally.second(0).late, tally.second(1).offered) == (1, 0)
    assert 1485 < (tally.second(0).p99_ms or 0) < 1515


def test_a_run_is_void_when_the_generator_lags_by_more_than_a_twentieth_of_the_deadline() -> None:
    tally = Tally(100 * MS, seconds=1)
    for _ in range(99):
        tally.offered(0, 1 * MS)
    tally.offered(0, 80 * MS)
    assert tally.void() is None  # p99 is 1 ms: one straggler in a hundred is forgiven
    tally.offered(0, 80 * MS)
    assert "p99 lag was 79.5" in (tally.void() or "")  # the middle of a bucket of 79 to 80 ms


def test_the_first_error_is_kept_for_the_reader() -> None:
    tally = Tally(MS, seconds=1)
    tally.failed(0, "reset", "connection reset by peer")
    tally.failed(0, "timeout")
    assert tally.first_error == "reset: connection reset by peer"
    assert tally.errors == {"reset": 1, "timeout": 1}
