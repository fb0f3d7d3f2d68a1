"""Tensors between the steps of one request, some with a part of their rows only; and what the node combines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from setpoint.core import CHOOSE, CONCAT, MEAN, VOTE, Condition, ModelError, RequestTooLarge, Step, TensorSpec

COMBINED_LIMIT_ELEMENTS = 4 << 20
"""Of all tensors of one combination: 4 ms of the node's thread, of a vote 30. A model combines more, in a worker."""
_TEXT_COST = 8
"""How many numbers take as long as one text."""
Rows = NDArray[np.intp]


class Held(NamedTuple):
    """A tensor, and which of the rows of its kind it has: None where all, else their numbers, ascending."""

    array: NDArray[Any]
    rows: Rows | None = None


_HOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "above": np.greater,
    "at_least": np.greater_equal,
    "equals": np.equal,
    # Not less_equal and so on: exactly one of each pair holds, also of NaN.
    "at_most": lambda values, value: ~np.greater(values, value),
    "below": lambda values, value: ~np.greater_equal(values, value),
    "differs": lambda values, value: ~np.equal(values, value).astype(bool),
}


def narrowed(held: Held, rows: Rows | None) -> NDArray[Any]:
    """Those rows of a tensor that has at least these."""
    if rows is None or held.rows is rows:
        return held.array
    if held.rows is None:
        return held.array[rows]
    return held.array[np.searchsorted(held.rows, rows)]


def holds(condition: Condition, values: NDArray[Any], where: str, *, by_row: bool) -> NDArray[np.bool_]:
    """For each row, or of the whole, whether a condition holds: bool [rows], or [1].

    Raises:
        ModelError: there is not the one element that it asks for.
    """
    rows = len(values) if by_row else 1
    table = values.reshape(rows, -1) if values.size else np.empty((rows, 0), values.dtype)
    if rows and (table.shape[1] <= max(condition.at, 0) or (condition.at < 0 and table.shape[1] != 1)):
        each = " for each row" if by_row else ""
        raise ModelError(
            f"{where}: its condition asks for one element of {condition.of}, and it has {table.shape[1]}{each}"
        )
    if not rows:
        return np.empty(0, bool)
    value = condition.value.encode() if isinstance(condition.value, str) else condition.value
    return np.asarray(_HOLDS[condition.word](table[:, max(condition.at, 0)], value), bool)


def combined(step: Step, given: Sequence[Held | None]) -> Held | None:
    """What a combination gives; None where what it takes is not there.

    Args:
        step: the combination.
        given: in the order of ``step.of``.

    Raises:
        ModelError: shapes that were free when it was packed do not go together.
        RequestTooLarge: there is too much to be done in the node.
    """
    there = [held for held in given if held is not None]
    if step.combination == CHOOSE:
        there = _with_a_say(there)
        if len(there) < 2:  # nothing is put together, so of any size
            return there[0] if there else None
    elements = sum(held.array.size for held in there)
    if any(held.array.dtype.hasobject for held in there):
        elements *= _TEXT_COST
    if step.combination == VOTE:
        elements *= len(there)  # each is compared with each
    if elements > COMBINED_LIMIT_ELEMENTS:
        raise RequestTooLarge(
            f"step {step.name!r}: {step.combination} of so much would hold up everybody else ({elements} elements "
            f"or comparisons, the limit is {COMBINED_LIMIT_ELEMENTS}); send fewer rows"
        )
    if step.combination == CHOOSE:
        return _choose(step, there)
    if len(there) < len(given):
        return None
    rows = fewest(there)
    arrays = [narrowed(held, rows) for held in there]
    if step.combination == CONCAT:
        lengths = {tuple(np.delete(array.shape, step.axis)) for array in arrays}
        if len(lengths) > 1:
            raise _unequal(step, arrays)
        return Held(np.concatenate(arrays, axis=step.axis), rows)
    if len({array.shape for array in arrays}) > 1:
        raise _unequal(step, arrays)
    weights = step.weights or (1.0,) * len(arrays)
    return Held(_mean(arrays, weights) if step.combination == MEAN else _vote(arrays, weights), rows)


def fewest(given: Sequence[Held]) -> Rows | None:
    """The rows that all have: those of whoever has the fewest, since conditions only ever take away."""
    some = [held.rows for held in given if held.rows is not None]
    return min(some, key=len) if some else None


def empty(spec: TensorSpec) -> NDArray[Any]:
    """No rows of a tensor."""
    return np.empty((0, *(max(length, 0) for length in spec.shape[1:])), spec.type.dtype)


def size_bytes(array: NDArray[Any]) -> int:
    """What it holds; of BYTES, with their text."""
    return array.nbytes + (sum(map(len, array.ravel())) if array.dtype.hasobject else 0)


def _mean(arrays: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[Any]:
    dtype = arrays[0].dtype
    total = np.zeros(arrays[0].shape, np.float64 if dtype.itemsize == 8 else np.float32)
    for array, weight in zip(arrays, weights, strict=True):
        total += array * total.dtype.type(weight / sum(weights))
    return total.astype(dtype, copy=False)


def _vote(arrays: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[Any]:
    """Element by element what has the most weight behind it; among equals, what the first of them says."""
    shape = arrays[0].shape
    votes = np.zeros((len(arrays), *shape))
    for candidate, array in enumerate(arrays):
        for other, weight in zip(arrays, weights, strict=True):
            votes[candidate] += weight * np.equal(array, other).astype(bool)
    winner = votes.argmax(axis=0)
    result = arrays[0].copy()
    for candidate in range(1, len(arrays)):
        chosen = winner == candidate
        result[chosen] = arrays[candidate][chosen]
    return result


def _with_a_say(there: list[Held]) -> list[Held]:
    """Those that rows are chosen from: not who has none, nor who comes after one that has all."""
    whole = next((place for place, held in enumerate(there) if held.rows is None), len(there))
    return [held for held in there[: whole + 1] if held.rows is None or len(held.rows)] or there[-1:]


def _choose(step: Step, there: Sequence[Held]) -> Held:
    """Row by row the first that is there, of several with a say: only the last may have all rows."""
    last = there[-1]
    rows = np.unique(np.concatenate([held.rows for held in there if held.rows is not None]))
    target = rows if last.rows is not None else np.arange(len(last.array))
    taken = np.zeros(len(target), bool)
    result = np.empty((len(target), *there[0].array.shape[1:]), there[0].array.dtype)
    for held in there:
        places = np.searchsorted(target, held.rows) if held.rows is not None else target
        fresh = ~taken[places]
        if not fresh.any():
            continue
        if held.array.shape[1:] != result.shape[1:]:
            raise _unequal(step, [result, held.array])
        result[places[fresh]] = held.array[fresh]
        taken[places] = True
    return Held(result, None if last.rows is None else rows)


def _unequal(step: Step, arrays: Sequence[NDArray[Any]]) -> ModelError:
    shapes = ", ".join(str(list(array.shape)) for array in arrays)
    return ModelError(f"step {step.name!r}: {step.combination} was given shapes that do not go together: {shapes}")
