"""What the engines of gradient-boosted trees have in common: a table goes in; labels with probabilities, or numbers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.engines.declared import DeclaredTensor

INPUT = "X"
LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"


class Task(msgspec.Struct, frozen=True):
    """What a model answers.

    Attributes:
        columns: numbers per row it takes.
        labels: of a classifier's classes, all ``int`` or all ``str``; empty for anything else.
        width: of anything else, numbers per row: 0 for one number without an axis of its own.
    """

    columns: int
    labels: tuple[int | str, ...] = ()
    width: int = 0

    @property
    def inputs(self) -> tuple[DeclaredTensor, ...]:
        """One float32 table; NaN is a missing value."""
        return (DeclaredTensor(INPUT, "FP32", ("rows", self.columns)),)

    @property
    def outputs(self) -> tuple[DeclaredTensor, ...]:
        """``label`` and ``probabilities`` of a classifier, ``prediction`` of anything else."""
        if self.labels:
            kind = "BYTES" if isinstance(self.labels[0], str) else "INT64"
            return (
                DeclaredTensor(LABEL, kind, ("rows",)),
                DeclaredTensor(PROBABILITIES, "FP32", ("rows", len(self.labels))),
            )
        return (DeclaredTensor(PREDICTION, "FP32", ("rows", self.width) if self.width else ("rows",)),)

    def answers(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Name what a library predicted.

        Args:
            values: of a classifier, probabilities ``[rows, classes]``, or ``[rows]`` of the second of two classes; else
                the numbers.
        """
        numbers = np.asarray(values, np.float32)
        if not self.labels:
            return {PREDICTION: numbers.reshape((len(numbers), self.width) if self.width else (len(numbers),))}
        if numbers.ndim == 1:
            numbers = np.stack([1 - numbers, numbers], axis=1)
        return {LABEL: self.labels_at(numbers.argmax(axis=1)), PROBABILITIES: numbers}

    def labels_at(self, positions: NDArray[Any]) -> NDArray[Any]:
        """The labels of classes given by position."""
        if isinstance(self.labels[0], str):
            encoded = np.empty(len(self.labels), np.object_)
            encoded[:] = [str(label).encode() for label in self.labels]
            return np.asarray(encoded[positions], np.object_)
        return np.asarray(np.array(self.labels, np.int64)[positions])

    def nothing(self) -> dict[str, NDArray[Any]]:
        """The answer to no rows, which some of the libraries refuse to give."""
        shape = (0, len(self.labels)) if self.labels else (0, self.width) if self.width else (0,)
        return self.answers(np.empty(shape, np.float32))
