"""The last minute is what was added in it, and nothing is ever lost from the whole."""

from hypothesis import given
from hypothesis import strategies as st

from setpoint.observe import RollingHistogram

S = 1_000_000_000


@given(st.lists(st.tuples(st.integers(0, 100 * S), st.integers(1, 30)), max_size=60))
def test_the_last_minute_holds_the_last_50_seconds_and_nothing_older_than_61(
    added: list[tuple[int, int]],
) -> None:
    """Rolled once a second, as the node does."""
    rolling = RollingHistogram()
    now_ns, values = S, []
    rolling.roll(now_ns)
    for value, seconds in added:
        rolling.add(value)
        values.append((now_ns, value))
        for _ in range(seconds):
            now_ns += S
            rolling.roll(now_ns)
    surely = sum(then_ns > now_ns - 50 * S for then_ns, _ in values)
    possibly = sum(then_ns > now_ns - 61 * S for then_ns, _ in values)
    assert surely <= rolling.last_minute().count <= possibly
    assert rolling.all_time().count == len(values)
    assert rolling.all_time().total == sum(value for _, value in values)


def test_a_machine_that_slept_for_hours_forgets_the_last_minute_and_keeps_the_whole() -> None:
    rolling = RollingHistogram()
    rolling.roll(S)
    rolling.add(5)
    rolling.roll(36_000 * S)
    assert (rolling.last_minute().count, rolling.all_time().count) == (0, 1)
    rolling.add(7)
    rolling.roll(36_001 * S)
    assert (rolling.last_minute().count, rolling.all_time().count) == (1, 2)
