"""The time kept back at admission: it follows from what had to be given up, and never takes all there is."""

from hypothesis import given
from hypothesis import strategies as st

from setpoint.scheduling.reserve import Reserve

BOUND_NS = 60_000_000
TICK_NS = 100_000_000


def settled(late_of_hundred: int, spare_ns: float = 20e6, ticks: int = 600) -> float:
    """After a minute with a hundred refusals a tick, so many of them late."""
    reserve = Reserve(BOUND_NS)
    for _ in range(ticks):
        for _ in range(late_of_hundred):
            reserve.was_late()
        reserve.refused_early += 100 - late_of_hundred
        reserve.relax(TICK_NS, spare_ns)
    return reserve.ns


def test_without_late_refusals_nothing_is_kept_back_and_with_many_of_them_most_of_the_spare_time() -> None:
    assert settled(0) == 0.0
    assert 10e6 < settled(3) < 20e6


def test_a_late_refusal_now_and_then_is_forgotten() -> None:
    reserve = Reserve(BOUND_NS)
    reserve.relax(TICK_NS, 20e6)
    reserve.was_late()
    for _ in range(600):
        reserve.relax(TICK_NS, 20e6)
    assert reserve.ns == 0.0


def test_late_answers_are_made_up_for_as_late_refusals_are_but_for_a_few() -> None:
    def kept_back(late_of_thousand: int) -> float:
        reserve = Reserve(BOUND_NS)
        for _ in range(600):
            reserve.answered += 1000
            for _ in range(late_of_thousand):
                reserve.was_late()
            reserve.relax(TICK_NS, 20e6)
        return reserve.ns

    assert kept_back(1) == 0.0
    assert kept_back(10) > 10e6


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000), st.floats(-10e6, 60e6)), max_size=60))
def test_a_request_always_keeps_some_time_to_wait_in(history: list[tuple[int, int, float]]) -> None:
    reserve = Reserve(BOUND_NS)
    for late, early, spare_ns in history:
        reserve.refused_early += early
        reserve.relax(TICK_NS, spare_ns)
        for _ in range(late):
            reserve.was_late()
        assert 0.0 <= reserve.ns <= max(0.0, 0.7 * spare_ns)
