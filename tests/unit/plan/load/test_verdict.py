"""The early-stopping rule gives MLPerf's numbers and never contradicts itself."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setpoint.plan.load.verdict import State, at_most, judge, minimum_queries


@pytest.mark.parametrize(
    ("target", "minima"),
    [
        (0.99, {0: 459, 1: 662, 5: 1307, 10: 2010, 50: 6898}),
        (0.95, {0: 90, 1: 130, 5: 259, 10: 398, 50: 1372}),
        (0.90, {0: 44, 1: 64, 5: 127, 10: 197, 50: 681}),
        (0.999, {0: 4603, 1: 6636, 5: 13105, 10: 20140}),
    ],
)
def test_minimum_queries_are_those_of_mlperf(target: float, minima: dict[int, int]) -> None:
    assert {misses: minimum_queries(misses, target) for misses in minima} == minima


@given(misses=st.integers(0, 60), target=st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_the_minimum_is_where_the_verdict_turns(misses: int, target: float) -> None:
    fewest = minimum_queries(misses, target)
    assert judge(fewest, misses, target).state is State.PROVEN
    assert judge(fewest - 1, misses, target).state is not State.PROVEN


@given(trials=st.integers(0, 200), chance=st.floats(0.001, 0.999), data=st.data())
def test_the_binomial_sum_is_right(trials: int, chance: float, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    exact = math.fsum(
        math.comb(trials, count) * chance**count * (1 - chance) ** (trials - count) for count in range(successes + 1)
    )
    assert at_most(successes, trials, chance) == pytest.approx(exact, rel=1e-7, abs=1e-12)


@settings(deadline=None)
@given(queries=st.integers(0, 5000), data=st.data(), target=st.sampled_from([0.9, 0.99]))
def test_the_queries_that_are_said_to_be_missing_prove_it(queries: int, data: st.DataObject, target: float) -> None:
    misses = data.draw(st.integers(0, int(queries * (1 - target) * 0.9)))
    verdict = judge(queries, misses, target)
    assert verdict.more_queries is not None
    total = queries + verdict.more_queries
    share = misses / queries if queries else 0
    assert judge(total, math.ceil(share * total - 1e-9), target).state is State.PROVEN


@pytest.mark.parametrize(
    ("queries", "misses", "state", "more"),
    [
        (0, 0, State.OPEN, 459),
        (458, 0, State.OPEN, 1),
        (459, 0, State.PROVEN, 0),
        (1000, 10, State.OPEN, None),  # exactly at the target: no number of queries like these proves it
        (1000, 30, State.REFUTED, None),
        (5, 5, State.REFUTED, None),
    ],
)
def test_verdicts(queries: int, misses: int, state: State, more: int | None) -> None:
    verdict = judge(queries, misses, 0.99)
    assert (verdict.state, verdict.more_queries) == (state, more)


@given(queries=st.integers(1, 400), misses=st.integers(0, 60), target=st.sampled_from([0.9, 0.95, 0.99]))
def test_refuted_means_that_so_many_misses_would_hardly_be_seen_if_it_held(
    queries: int, misses: int, target: float
) -> None:
    misses = min(misses, queries)
    chance = 1 - target
    as_many = math.fsum(
        math.comb(queries, count) * chance**count * target ** (queries - count) for count in range(misses, queries + 1)
    )
    verdict = judge(queries, misses, target)
    if abs(as_many - 0.01) > 1e-9:
        assert (verdict.state is State.REFUTED) == (as_many <= 0.01)
