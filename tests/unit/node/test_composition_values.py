"""What passes between steps, and what the node combines, against plain loops over rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import Condition, ModelError, RequestTooLarge, Step
from setpoint.node.composition.values import COMBINED_LIMIT_ELEMENTS, Held, combined, holds, narrowed

WORDS = ("above", "at_least", "equals", "at_most", "below", "differs")
numbers = st.one_of(st.floats(-2, 2, width=32), st.just(float("nan")), st.sampled_from([0.0, 1.0]))


def rows_of(mask: list[bool]) -> Any:
    return np.flatnonzero(np.array(mask, bool))


@given(st.lists(numbers, min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 1.0]))
def test_of_two_opposite_conditions_exactly_one_holds_also_of_what_is_no_number(
    values: list[float], value: float
) -> None:
    array = np.array(values, np.float32)
    for word, opposite in (("above", "at_most"), ("at_least", "below"), ("equals", "differs")):
        one = holds(Condition("x", word, value), array, "step", by_row=True)
        other = holds(Condition("x", opposite, value), array, "step", by_row=True)
        assert (one ^ other).all()
    assert holds(Condition("x", "above", value), array, "step", by_row=True).tolist() == [one > value for one in values]


def test_texts_are_compared_as_texts() -> None:
    words = np.array([b"yes", b"no"], object)
    assert holds(Condition("x", "equals", "yes"), words, "step", by_row=True).tolist() == [True, False]
    assert holds(Condition("x", "differs", "yes"), words, "step", by_row=True).tolist() == [False, True]


def test_a_condition_asks_for_one_element() -> None:
    table = np.arange(6.0).reshape(2, 3)
    assert holds(Condition("x", "above", 1.5, at=2), table, "step", by_row=True).tolist() == [True, True]
    assert holds(Condition("x", "above", 4.5, at=5), table, "step", by_row=False).tolist() == [True]
    for condition, by_row in ((Condition("x", "above", 0.0), True), (Condition("x", "above", 0.0, at=3), True)):
        with pytest.raises(ModelError, match="asks for one element of x, and it has 3 for each row"):
            holds(condition, table, "step", by_row=by_row)
    assert holds(Condition("x", "above", 0.0), np.empty((0, 3)), "step", by_row=True).shape == (0,)


@given(st.integers(0, 8), st.data())
def test_rows_are_found_again_in_those_that_are_left(count: int, data: st.DataObject) -> None:
    full = np.arange(count) * 10
    outer = rows_of(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    inner = outer[np.array(data.draw(st.lists(st.booleans(), min_size=len(outer), max_size=len(outer))), bool)]
    assert narrowed(Held(full), inner).tolist() == (inner * 10).tolist()
    assert narrowed(Held(full[outer], outer), inner).tolist() == (inner * 10).tolist()
    assert narrowed(Held(full), None) is full


@given(st.integers(0, 6), st.data())
def test_choosing_takes_the_first_that_is_there_row_by_row(count: int, data: st.DataObject) -> None:
    masks = [data.draw(st.lists(st.booleans(), min_size=count, max_size=count)) for _ in range(2)]
    given_ = [
        Held((np.arange(count) + 100 * place)[rows_of(mask)], rows_of(mask))
        for place, mask in enumerate(masks, start=1)
    ]
    last = Held(np.arange(count) + 900)
    chosen = combined(Step("c", (), combination="choose", of=("a", "b", "c")), [*given_, last])
    assert chosen is not None
    wanted = [row + (100 if masks[0][row] else 200 if masks[1][row] else 900) for row in range(count)]
    assert (chosen.array.tolist(), chosen.rows) == (wanted, None)
    both = combined(Step("c", (), combination="choose", of=("a", "b")), given_)
    assert both is not None
    assert both.array.tolist() == [value for value in wanted if value < 900]


def test_choosing_of_whole_tensors_takes_the_first_that_is_there() -> None:
    choose = Step("c", (), combination="choose", of=("a", "b"))
    second = Held(np.array([2]))
    assert combined(choose, [None, second]) is second
    assert combined(choose, [None, None]) is None
    assert combined(Step("m", (), combination="mean", of=("a", "b")), [None, second]) is None


def test_what_is_chosen_as_a_whole_is_not_put_together_and_may_be_of_any_size() -> None:
    choose = Step("c", (), combination="choose", of=("a", "b"))
    none, one = rows_of([False, False]), rows_of([False, True])
    whole = Held(np.broadcast_to(np.float32(1), (2, COMBINED_LIMIT_ELEMENTS)))
    width = whole.array.shape[1]
    assert combined(choose, [Held(np.empty((0, 0), np.float32), none), whole]) is whole
    assert combined(choose, [whole, Held(np.zeros((1, width)), one)]) is whole
    with pytest.raises(RequestTooLarge, match="choose of so much would hold up everybody else"):
        combined(choose, [Held(np.zeros((1, width), np.float32), one), whole])
    nothing = combined(choose, [Held(np.empty((0, 1)), none), Held(np.empty((0, 2)), none)])
    assert nothing is not None
    assert (nothing.array.shape, nothing.rows) == ((0, 2), none)


@given(
    st.integers(2, 5),
    st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), min_size=0, max_size=6),
    st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=5, max_size=5),
    st.booleans(),
)
def test_a_vote_is_for_what_has_most_weight_and_the_first_of_equals(
    voters: int, table: list[list[int]], weights: list[float], text: bool
) -> None:
    columns = np.array(table, np.int64).reshape(-1, 5)[:, :voters]
    names = np.array([b"a", b"b", b"c"], object)
    step = Step("v", (), combination="vote", of=("x",) * voters, weights=tuple(weights[:voters]))
    won = combined(step, [Held(names[column] if text else column) for column in columns.T])
    assert won is not None
    for row, result in zip(columns.tolist(), won.array.tolist(), strict=True):
        totals: dict[int, float] = {}
        for voter, said in enumerate(row):
            totals[said] = totals.get(said, 0.0) + weights[voter]
        winner = max(totals, key=lambda said: totals[said])  # dicts keep the order in which they were said
        assert result == (names[winner] if text else winner)


@given(st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), max_size=5))
def test_a_mean_is_weighted_and_keeps_the_datatype(table: list[list[float]]) -> None:
    columns = np.array(table, np.float32).reshape(-1, 3)
    step = Step("m", (), combination="mean", of=("a", "b", "c"), weights=(2.0, 1.0, 1.0))
    mean = combined(step, [Held(column) for column in columns.T])
    assert mean is not None
    np.testing.assert_allclose(mean.array, np.average(columns, axis=1, weights=[2, 1, 1]), rtol=1e-5, atol=1e-5)
    assert mean.array.dtype == np.float32
    half = combined(step, [Held(column.astype(np.float16)) for column in columns.T])
    assert half is not None
    assert half.array.dtype == np.float16


def test_what_does_not_go_together_at_run_time_is_the_models_fault() -> None:
    wide, narrow = Held(np.zeros((2, 3))), Held(np.zeros((2, 2)))
    with pytest.raises(
        ModelError, match=r"step 'm': mean was given shapes that do not go together: \[2, 3\], \[2, 2\]"
    ):
        combined(Step("m", (), combination="mean", of=("a", "b")), [wide, narrow])
    with pytest.raises(ModelError, match="do not go together"):
        combined(Step("c", (), combination="concat", of=("a", "b"), axis=1), [wide, Held(np.zeros((3, 3)))])
    joined = combined(Step("c", (), combination="concat", of=("a", "b"), axis=1), [wide, narrow])
    assert joined is not None
    assert joined.array.shape == (2, 5)


def test_the_node_combines_no_more_than_it_has_time_for() -> None:
    large = Held(np.zeros(COMBINED_LIMIT_ELEMENTS // 2 + 1, np.float32))
    with pytest.raises(RequestTooLarge, match="would hold up everybody else"):
        combined(Step("m", (), combination="mean", of=("a", "b")), [large, large])
