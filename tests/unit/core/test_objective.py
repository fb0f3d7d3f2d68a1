"""An objective is read from text and printed back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import Goal, InvalidConfiguration, Objective, Quantity

# Numbers as a person writes them: at most six decimals, and never 0 where 0 is impossible.
positive = st.integers(1, 10**9).map(lambda thousandths: thousandths / 1000)
percentiles = st.integers(1, 9999).map(lambda hundredths: hundredths / 100)
clauses = {
    "latency": st.builds(
        lambda percentile, bound, unit: f"p{percentile:g}<={bound:.12g}{unit}",
        percentiles,
        positive,
        st.sampled_from(["us", "ms", "s"]),
    ),
    "drop": st.integers(0, 100_000).map(lambda thousandths: f"drop<={thousandths / 1000:.12g}%"),
    "rate": positive.map(lambda rate: f"rps>={rate:.12g}"),
    "cost": positive.map(lambda cost: f"cost<={cost:.12g}/h"),
}
objectives = (
    st.lists(st.sampled_from(sorted(clauses)), min_size=1, max_size=4, unique=True)
    .flatmap(lambda names: st.tuples(*(clauses[name] for name in names)))
    .map(", ".join)
)


@given(objectives)
def test_canonical_text_comes_back_as_it_was(text: str) -> None:
    assert str(Objective.parse(text)) == text


@given(objectives, st.randoms(use_true_random=False))
def test_spaces_and_capitals_change_nothing(text: str, random: object) -> None:
    spaced = text.replace("<=", " <= ").replace(">=", "  >=").replace(",", " ,")
    assert Objective.parse(spaced.upper()) == Objective.parse(text)


def test_every_quantity_is_understood() -> None:
    objective = Objective.parse("p99<=20ms, drop<=1%, rps>=200, cost<=0.5/h")
    assert objective.latency == Goal(Quantity.LATENCY, 20.0, 99.0, "ms")
    assert objective.latency.bound_ns == 20_000_000
    assert objective.drop == Goal(Quantity.DROP, 1.0)
    assert objective.rate == Goal(Quantity.RATE, 200.0)
    assert [goal.quantity for goal in objective.goals] == list(Quantity)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not understood"),
        ("fast", "not understood"),
        ("p99>=20ms", "not understood"),
        ("p99<=20", "not understood"),
        ("p100<=20ms", "not understood"),
        ("p0<=20ms", "above 0"),
        ("p99<=0ms", "above 0"),
        ("p99<=0.0001us", "above 0"),
        ("drop<=101%", "at most 100%"),
        ("rps>=0", "above 0"),
        ("p99<=20ms,", "not understood"),
        ("p99<=20ms, p50<=5ms", "twice"),
        ("p99<=nan ms", "not understood"),
    ],
)
def test_impossible_objectives_are_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint):
        Objective.parse(text)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        objective = Objective.parse(text)
    except InvalidConfiguration:
        return
    assert Objective.parse(str(objective)) == objective
