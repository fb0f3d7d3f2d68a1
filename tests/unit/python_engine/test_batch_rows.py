"""Rows of several requests put together and taken apart: nothing lost, nothing swapped, never too many at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidRequest, ModelError
from setpoint.engines.python_batch import Columns, joined, pieces, row_count, run_rows, split

REQUESTS = st.lists(st.lists(st.tuples(st.integers(), st.text(max_size=3)), max_size=7), min_size=1, max_size=6)


def columns_of(rows: list[tuple[int, str]]) -> Columns:
    return [number for number, _ in rows], [text for _, text in rows]


@given(requests=REQUESTS, most_rows=st.integers(1, 9), as_array=st.booleans())
def test_every_request_gets_back_its_own_rows(
    requests: list[list[tuple[int, str]]], most_rows: int, as_array: bool
) -> None:
    sizes = []

    def method(columns: Columns) -> Any:
        numbers, texts = columns
        sizes.append(len(numbers))
        made = [f"{number}{text}" for number, text in zip(numbers, texts, strict=True)]
        return np.array(made, object) if as_array else made

    all_columns = [columns_of(rows) for rows in requests]
    counts = [row_count(("a", "b"), columns) for columns in all_columns]
    results = run_rows(method, joined(all_columns), most_rows)
    parts = [list(part) for part in split(results, counts)]
    assert parts == [[f"{number}{text}" for number, text in rows] for rows in requests]
    assert all(0 < size <= most_rows for size in sizes)
    assert len(sizes) == -(-sum(counts) // most_rows)


@given(rows=st.lists(st.integers(), min_size=1), most_rows=st.integers(1, 5))
def test_pieces_are_the_rows_in_order(rows: list[int], most_rows: int) -> None:
    assert [row for (column,) in pieces((rows,), most_rows) for row in column] == rows


def test_lists_of_different_lengths_are_the_clients_mistake() -> None:
    with pytest.raises(InvalidRequest, match="texts has 2, ids has 1"):
        row_count(("texts", "ids"), (["a", "b"], [1]))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1], "expected 2 results, one per row, got 1"),
        (np.zeros((3, 4)), "expected 2 results, one per row, got 3"),
        ({0: 1, 1: 2}, "expected a list with one element per row, got dict"),
        ("ab", "got str"),
        (None, "got NoneType"),
        (np.float32(1), "got float32"),
        (np.array(1.0), "without axes"),
    ],
)
def test_a_result_without_one_element_per_row_is_the_models_mistake(result: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        run_rows(lambda columns: result, (["a", "b"],), 8)


def test_no_rows_need_no_call() -> None:
    def method(columns: Columns) -> Any:
        raise AssertionError

    assert run_rows(method, ([],), 8) == []
