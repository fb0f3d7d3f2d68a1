"""A store that fails is left alone until it has answered a question that nobody waits for."""

from setpoint.node.cache.breaker import Breaker

S = 1_000_000_000


def dead(now_ns: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(now_ns)
    return breaker


def test_one_accident_changes_nothing() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(0)
        breaker.failed(0)
        assert not breaker.open
        breaker.succeeded()


def test_three_failures_in_a_row_and_it_is_only_probed() -> None:
    breaker = dead()
    assert breaker.open
    assert not breaker.probe_due(S - 1)
    assert breaker.probe_due(S)
    assert not breaker.probe_due(S), "one question is enough"
    breaker.succeeded()
    assert not breaker.open
    assert not breaker.probe_due(10 * S)


def test_the_longer_it_is_away_the_less_it_is_asked_but_twice_a_minute() -> None:
    breaker = dead()
    now_ns, waits_s = 0, []
    for _ in range(8):
        begin_ns = now_ns
        while not breaker.probe_due(now_ns):
            now_ns += S
        waits_s.append((now_ns - begin_ns) // S)
        breaker.failed(now_ns)
    assert waits_s == [1, 2, 4, 8, 16, 30, 30, 30]
    assert breaker.open
