"""The steps of a composition: each begins once, when all that it needs is done, and none after the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.scheduling import StepGraph, StepRun


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(1, 10))
    return [draw(st.lists(st.integers(0, step - 1), max_size=4)) if step else [] for step in range(count)]


@given(graphs(), st.randoms(use_true_random=False))
def test_every_step_begins_once_and_behind_all_that_it_needs_whatever_the_order_of_answers(
    needs: list[list[int]], random: object
) -> None:
    run = StepRun(StepGraph(needs))
    open_steps = run.begin()
    begun, done = list(open_steps), set()
    while open_steps:
        step = open_steps.pop(random.randrange(len(open_steps)))  # type: ignore[attr-defined]
        done.add(step)
        following = run.done(step)
        assert all(set(needs[one]) <= done for one in following)
        open_steps += following
        begun += following
        assert run.over == (len(done) == len(needs))
    assert sorted(begun) == list(range(len(needs)))


@given(graphs(), st.randoms(use_true_random=False), st.integers(0, 9))
def test_nothing_begins_after_the_end(needs: list[list[int]], random: object, ended_after: int) -> None:
    run = StepRun(StepGraph(needs))
    open_steps = run.begin()
    for _ in range(min(ended_after, len(needs) - 1)):
        open_steps += run.done(open_steps.pop(random.randrange(len(open_steps))))  # type: ignore[attr-defined]
    assert run.end()
    assert not run.end(), "it ends once"
    assert all(run.done(step) == [] for step in open_steps)
    assert run.over


@pytest.mark.parametrize("needs", [[[0]], [[1], []], [[-1]], [[], [5]]])
def test_a_step_cannot_need_itself_or_what_comes_later(needs: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="does not come before"):
        StepGraph(needs)
