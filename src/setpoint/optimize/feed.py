"""Input for measuring and judging: the user's rows, or made-up ones that the model is known to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, Signature
from setpoint.formats import made_up_rows, read_rows

Arrays = Mapping[str, NDArray[Any]]
MADE_UP_ROWS = 256
ACCEPTED_ROWS = 2048
"""Where agreement on them is to count: fewer could not show that a loss is below a per cent."""
_SEED = 20_260
_CALIBRATION, _TRAINING = (200, 0.25), (20_000, 0.5)
"""Rows at most, and their share of all: what makers see to take ranges from, or to learn from."""


class Feed:
    """Batches of any size out of a fixed set of rows.

    Args:
        arrays: one for each input, in the signature's order; equal first axes where the signature is batched.
        signature: says whether there is a batch axis.
        limit_rows: the largest batch that may be formed.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], signature: Signature, limit_rows: int) -> None:
        self._arrays = list(arrays)
        self._batched = signature.batched
        self.most_rows = max(1, limit_rows) if signature.batched else 1

    @property
    def rows(self) -> int:
        """Rows there are; 1 where there is no batch axis."""
        return len(self._arrays[0]) if self._batched else 1

    def batch(self, rows: int, start: int = 0) -> list[NDArray[Any]]:
        """``rows`` rows from the ``start``-th batch of that size on, going around at the end."""
        if not self._batched:
            return self._arrays
        wanted = (np.arange(rows) + start * rows) % self.rows
        return [array[wanted] for array in self._arrays]


class Examples(msgspec.Struct, frozen=True):
    """Rows to judge variants with.

    Attributes:
        arrays: one for each input, in the signature's order.
        labels: the right answers, rows first; None where nobody gave them.
        origin: of the rows, in words.
        real: False where the rows are made up, so that nothing can be promised.
    """

    arrays: tuple[NDArray[Any], ...]
    labels: NDArray[Any] | None
    origin: str
    real: bool

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.arrays[0])

    def take(self, which: NDArray[Any]) -> Examples:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[which]
        return Examples(tuple(array[which] for array in self.arrays), labels, self.origin, self.real)

    def split(self, *, training: bool = False) -> tuple[Examples, Examples]:
        """Rows to calibrate with and rows to judge with, shuffled, so that the first of them are like the rest.

        No row is in both: a maker must not see what judges it.
        """
        order = np.random.default_rng(_SEED).permutation(self.rows)
        most, share = _TRAINING if training else _CALIBRATION
        count = min(most, round(self.rows * share))
        return self.take(order[:count]), self.take(order[count:])


def read_examples(path: Path, signature: Signature) -> Examples:
    """Read an ``.npz`` with one array for each input, rows first, and perhaps one more: the labels, under any name.

    Raises:
        InvalidConfiguration: unreadable, inputs missing, several arrays that are no input, or unequal row counts.
    """
    fitted, others = read_rows(path, signature)
    if len(others) > 1:
        raise InvalidConfiguration(
            f"{path} holds {', '.join(sorted(others))} beside the inputs; expected at most one more array: the labels"
        )
    labels = next(iter(others.values()), None)
    arrays = tuple(fitted[spec.name] for spec in signature.inputs)
    counts = {len(array) for array in arrays} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1 or 0 in counts:
        raise InvalidConfiguration(f"{path}: every array has one row for each example, got {sorted(counts)} rows")
    return Examples(arrays, labels, f"{counts.pop()} rows of {path.name}", real=True)


def make_examples(
    artifact: Path, signature: Signature, length: int | None = None, *, rows: int = MADE_UP_ROWS
) -> Examples:
    """Made-up rows that the model takes.

    Args:
        artifact: the ``.onnx`` file.
        signature: of the model.
        length: of free inner axes, such as tokens; the first that runs without.
        rows: how many, where there is a batch axis.

    Raises:
        InvalidConfiguration: no made-up input runs.
    """
    made = made_up_rows(artifact, rows if signature.batched else 1, length)
    arrays = tuple(made[spec.name] for spec in signature.inputs)
    return Examples(arrays, None, "made-up rows", real=False)
