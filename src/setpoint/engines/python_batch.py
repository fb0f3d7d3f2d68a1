"""Rows of several requests put together and results taken apart again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from setpoint.core import InvalidRequest, ModelError

Columns = tuple[list[Any], ...]
"""The arguments of one request to a batched endpoint: one list per argument, all of one length."""


def row_count(names: Sequence[str], columns: Columns) -> int:
    """How many rows a request holds.

    Raises:
        InvalidRequest: its lists differ in length.
    """
    rows = len(columns[0])
    for name, column in zip(names[1:], columns[1:], strict=True):
        if len(column) != rows:
            raise InvalidRequest(
                f"every argument holds one element per row: {names[0]} has {rows}, {name} has {len(column)}"
            )
    return rows


def joined(requests: Sequence[Columns]) -> Columns:
    """The rows of all requests, in order. One request is returned as it is."""
    if len(requests) == 1:
        return requests[0]
    return tuple([row for column in columns for row in column] for columns in zip(*requests, strict=True))


def pieces(columns: Columns, most_rows: int) -> Iterator[Columns]:
    """The same rows, at most ``most_rows`` at a time."""
    for start in range(0, len(columns[0]), most_rows):
        yield tuple(column[start : start + most_rows] for column in columns)


def run_rows(method: Callable[[Columns], Any], columns: Columns, most_rows: int) -> Any:
    """Call ``method`` with at most ``most_rows`` rows at a time and put its results together.

    Returns:
        a list, tuple or array with one element per row; ``[]`` without a call when there are no rows.

    Raises:
        ModelError: the method did not return one result per row.
        Exception: whatever it raises.
    """
    rows = len(columns[0])
    if rows == 0:
        return []
    if rows <= most_rows:
        return _checked(method(columns), rows)
    results = [_checked(method(piece), len(piece[0])) for piece in pieces(columns, most_rows)]
    if all(isinstance(result, np.ndarray) for result in results):
        return np.concatenate(results)
    return [row for result in results for row in result]


def split(results: Any, row_counts: Sequence[int]) -> Iterator[Any]:
    """The results of each request, where request i brought ``row_counts[i]`` rows."""
    if len(row_counts) == 1:
        yield results
        return
    start = 0
    for rows in row_counts:
        yield results[start : start + rows]
        start += rows


def _checked(result: Any, rows: int) -> Any:
    if not isinstance(result, list | tuple | np.ndarray):
        raise ModelError(f"expected a list with one element per row, got {type(result).__name__}")
    if isinstance(result, np.ndarray) and result.ndim == 0:
        raise ModelError("expected a list with one element per row, got an array without axes")
    if len(result) != rows:
        raise ModelError(f"expected {rows} results, one per row, got {len(result)}")
    return result
