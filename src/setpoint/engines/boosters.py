"""What the engines of gradient-boosted trees have in common: a table goes in; labels with probabilities, or numbers."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines.base import Arrays, EngineOptions, one_line
from setpoint.engines.declared import DeclaredTensor
from setpoint.engines.devices import CPU, need_cpu
from setpoint.machine import rss_bytes

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


class BoosterExecutable(abc.ABC):
    """A loaded model, but for how its library is asked. Used by one thread at a time.

    Attributes:
        booster: the library's own object.
        task: what it answers.
        device: it computes on.
    """

    device = CPU

    def __init__(self, booster: Any, task: Task, memory_bytes: int) -> None:
        self.booster = booster
        self.task = task
        self.inputs, self.outputs = task.inputs, task.outputs
        self._memory_bytes = memory_bytes

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the library refuses the rows, such as infinite values.
        """
        rows = self._rows(inputs)
        if not len(rows):
            return self.task.nothing()
        try:
            values = self._predict(rows)
        except Exception as error:  # the libraries raise classes of their own, ValueError and TypeError
            raise ModelError(f"the model failed: {str(error).partition(chr(10))[0][:300]}") from error
        return self.task.answers(values)

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the model was loaded."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the model."""
        del self.booster

    def _rows(self, inputs: Arrays) -> NDArray[Any]:
        """The inputs as the library takes them."""
        return np.ascontiguousarray(inputs[INPUT])

    @abc.abstractmethod
    def _predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What the library says of one row or more, for ``Task.answers``."""


@contextlib.contextmanager
def loading(library: str, version: str, artifact: Path, options: EngineOptions) -> Iterator[Callable[[], int]]:
    """Around loading a model file; gives what tells the resident bytes that this process grew by since.

    Raises:
        InvalidConfiguration: the device is not the CPU; or as raised inside.
        ModelError: anything else was raised inside: the libraries have classes of their own, and KeyError or
            ValueError for half a model.
    """
    need_cpu(library, options.device)
    before = rss_bytes(os.getpid())
    try:
        yield lambda: max(0, rss_bytes(os.getpid()) - before)
    except InvalidConfiguration:
        raise
    except Exception as error:
        raise ModelError(f"{artifact.name} cannot be loaded by {library} {version}: {one_line(error)}") from error
