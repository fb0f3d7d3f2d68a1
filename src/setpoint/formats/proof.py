"""A conversion is proven: the same input to the source and to what it became, at several sizes, compared.

A label may differ for one honest reason: its two best classes score alike in the source, within what float32 can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import ConversionMismatch, ModelError
from setpoint.engines import Arrays
from setpoint.formats.equivalence import closeness, compare, tolerance_for

Run = Callable[[Arrays], dict[str, NDArray[Any]]]
_TIE = 1e-4
_SINGLE_ROWS, _GROUP_ROWS = 4, 7


class Trial(msgspec.Struct, frozen=True):
    """Input for both.

    Attributes:
        arrays: one per input.
        origin: in words, such as ``made-up rows``.
    """

    arrays: dict[str, NDArray[Any]]
    origin: str


def by_size(arrays: Arrays, origin: str) -> Iterator[Trial]:
    """Rows as they are, some of them together, and a few alone."""
    rows = len(next(iter(arrays.values())))
    parts = [slice(0, rows), slice(0, _GROUP_ROWS), *(slice(row, row + 1) for row in range(min(_SINGLE_ROWS, rows)))]
    for part in parts:
        yield Trial({name: array[part] for name, array in arrays.items()}, origin)


def prove(
    source: Run, converted: Run, trials: Sequence[Trial], what: str, *, remedy: str, ties: tuple[str, str] | None = None
) -> str:
    """Ask both the same and compare.

    Args:
        source: the source of truth.
        converted: what it became.
        trials: what to ask.
        what: the conversion in words, for the error.
        remedy: what the user can do where it differs.
        ties: names of the output of labels and of the one of scores that decide them.

    Returns:
        how close each output came, in words that do not change with every machine.

    Raises:
        ConversionMismatch: an output differs, or the conversion does not run where the source does.
    """
    worst: dict[str, float] = {}
    excused = 0
    for trial in trials:
        expected = source(trial.arrays)
        try:
            actual = converted(trial.arrays)
        except ModelError as error:
            raise ConversionMismatch(
                f"{what} does not run where its source does ({trial.origin}: {error}); {remedy}"
            ) from error
        if missing := expected.keys() ^ actual.keys():
            raise ConversionMismatch(f"{what} and its source differ in outputs: {', '.join(sorted(missing))}; {remedy}")
        for name, answer in expected.items():
            tolerance = tolerance_for(answer)
            difference = compare(answer, actual[name], tolerance)
            if ties and name == ties[0] and difference.rows and not difference.problem:
                tied = _tied(expected[ties[1]])
                if all(tied[row] for row in difference.rows):
                    excused += len(difference.rows)
                    continue
            if not difference.within:
                raise ConversionMismatch(
                    f"{what} differs from it: {name}: {difference} ({trial.origin}; allowed {tolerance}); {remedy}"
                )
            worst[name] = max(worst.get(name, 0.0), difference.worst_of_scale)
    agreement = ", ".join(f"{name} {closeness(value)}" for name, value in worst.items())
    origins = ", ".join(dict.fromkeys(trial.origin for trial in trials))
    sizes = sorted({len(array) for trial in trials for array in trial.arrays.values() if array.ndim})
    batches = f", batches of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]}" if len(sizes) > 1 else ""
    ties_told = f"; {excused} labels between classes that score alike" if excused else ""
    return f"converted answers: {agreement} ({origins}{batches}){ties_told}"


def _tied(scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have two best classes that score alike."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2] < _TIE)
