"""The search for the largest proven rate ends, encloses it, and says what it does not know."""

from hypothesis import given
from hypothesis import strategies as st

from setpoint.plan.load.search import (
    MOST_PROBES,
    RESOLUTION,
    Outcome,
    Probe,
    first_seconds,
    maximum,
    next_rate,
    outcome_of,
    second_seconds,
)
from setpoint.plan.load.verdict import judge


def search(start: float, outcome_at: dict[float, Outcome] | float, otherwise: Outcome = Outcome.REFUTED) -> list[Probe]:
    """Probe a server that holds every rate up to ``outcome_at``."""
    probes: list[Probe] = []
    while (rate := next_rate(probes, start)) is not None:
        assert isinstance(outcome_at, float)
        probes.append(Probe(rate, Outcome.PROVEN if rate <= outcome_at else otherwise))
    return probes


@given(start=st.floats(1, 10_000), capacity=st.floats(0.5, 100_000))
def test_the_maximum_is_enclosed_within_the_resolution(start: float, capacity: float) -> None:
    probes = search(start, capacity)
    found = maximum(probes, 0.99)
    assert len(probes) < MOST_PROBES
    assert found.rate_per_s is not None
    assert found.not_proven_per_s is not None
    assert found.rate_per_s <= capacity < found.not_proven_per_s
    assert found.not_proven_per_s <= found.rate_per_s * (1 + RESOLUTION)
    assert found.bounded_by == "refuted"


@given(st.lists(st.tuples(st.sampled_from(list(Outcome))), max_size=40), st.floats(1, 1000))
def test_any_outcomes_end_the_search_without_trying_a_rate_twice(answers: list[tuple[Outcome]], start: float) -> None:
    probes: list[Probe] = []
    for (outcome,) in [*answers, *[(Outcome.REFUTED,)] * 40]:
        rate = next_rate(probes, start)
        if rate is None:
            break
        assert rate not in {probe.rate_per_s for probe in probes}
        probes.append(Probe(rate, outcome))
    assert next_rate(probes, start) is None
    found = maximum(probes, 0.99)
    if found.rate_per_s is not None and found.not_proven_per_s is not None:
        assert found.rate_per_s < found.not_proven_per_s


def test_it_doubles_then_bisects_in_proportion() -> None:
    rates = [probe.rate_per_s for probe in search(100.0, 450.0)]
    assert rates[:5] == [100, 200, 400, 800, 565.7]


def test_it_halves_when_the_start_is_too_high() -> None:
    assert [probe.rate_per_s for probe in search(100.0, 30.0)][:4] == [100, 50, 25, 35.36]


def test_from_a_start_that_is_near_small_steps_need_few_probes() -> None:
    probes: list[Probe] = []
    while (rate := next_rate(probes, 240.0, 1.1)) is not None:
        probes.append(Probe(rate, Outcome.PROVEN if rate <= 252.0 else Outcome.REFUTED))
    assert [probe.rate_per_s for probe in probes] == [240, 264, 251.7]
    assert maximum(probes, 0.99).rate_per_s == 251.7
    assert maximum(probes[:1], 0.99, in_time=False).bounded_by == "time"


def test_a_server_that_holds_nothing_ends_the_search() -> None:
    found = maximum(search(10.0, 0.0), 0.99)
    assert found.rate_per_s is None
    assert found.bounded_by == "refuted"


def test_what_bounds_the_maximum_is_said() -> None:
    assert maximum(search(100.0, 450.0, Outcome.UNRESOLVED), 0.99).bounded_by == "unresolved"
    assert maximum(search(100.0, 450.0, Outcome.VOID), 0.99).bounded_by == "void"
    endless = maximum(search(1.0, 1e300), 0.99)
    assert (endless.bounded_by, endless.not_proven_per_s) == ("probes", None)


def test_a_probe_is_long_enough_to_prove_anything() -> None:
    assert first_seconds(10, 5, 0.99) * 10 >= 459
    assert first_seconds(1000, 5, 0.99) == 5


def test_an_open_probe_is_made_longer_if_that_can_settle_it() -> None:
    longer = second_seconds(10, judge(1000, 4, 0.99), void=False)
    assert longer is not None
    assert 10 < longer <= 40
    assert second_seconds(10, judge(1000, 9, 0.99), void=False) is None  # 52,743 more queries
    assert second_seconds(10, judge(1000, 0, 0.99), void=False) is None
    assert second_seconds(10, judge(1000, 0, 0.99), void=True) == 10
    assert outcome_of(judge(1000, 9, 0.99), void=False) is Outcome.UNRESOLVED
    assert outcome_of(judge(1000, 0, 0.99), void=True) is Outcome.VOID
