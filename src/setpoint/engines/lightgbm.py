"""The LightGBM engine: models that no ONNX graph says exactly (categorical splits, linear trees, zero as missing)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import MissingExtra, ModelError
from setpoint.engines.base import Arrays, EngineOptions
from setpoint.engines.boosters import INPUT, Task
from setpoint.engines.devices import CPU, choose
from setpoint.machine import rss_bytes

try:
    import lightgbm
except ImportError as missing:
    raise MissingExtra("lightgbm", "lightgbm", "running a LightGBM model") from missing

_CLASSIFIERS = frozenset({"binary", "multiclass", "multiclassova"})


class LightgbmExecutable:
    """A booster. Used by one thread at a time.

    Attributes:
        objective: what it was trained for and how, such as ``binary sigmoid:1``; empty for a custom one.
    """

    def __init__(self, booster: lightgbm.Booster, threads: int, memory_bytes: int) -> None:
        self.booster = booster
        self._threads = threads
        self._memory_bytes = memory_bytes
        self.objective = _objective(booster)
        width = int(booster.num_model_per_iteration())
        if self.objective.partition(" ")[0] in _CLASSIFIERS:
            self.task = Task(booster.num_feature(), tuple(range(max(width, 2))))
        else:
            self.task = Task(booster.num_feature(), width=width if width > 1 else 0)
        self.inputs, self.outputs = self.task.inputs, self.task.outputs

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the library refuses the rows.
        """
        rows = np.ascontiguousarray(inputs[INPUT])
        if not len(rows):
            return self.task.nothing()
        try:
            return self.task.answers(np.asarray(self.booster.predict(rows, num_threads=self._threads)))
        except Exception as error:  # the library raises its own class, ValueError and TypeError
            raise ModelError(f"the model failed: {str(error).partition(chr(10))[0][:300]}") from error

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the model was loaded."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the booster."""
        del self.booster


class LightgbmEngine:
    """Loads ``.txt`` models."""

    name = "lightgbm"

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> LightgbmExecutable:
        """Load a model file. ``entry`` is not used.

        Raises:
            ModelError: it cannot be loaded.
        """
        return load(artifact, options)


def load(artifact: Path, options: EngineOptions) -> LightgbmExecutable:
    """Load a model file.

    Raises:
        ModelError: it cannot be loaded.
    """
    choose("lightgbm", options.device, {CPU: CPU})
    before = rss_bytes(os.getpid())
    try:
        lightgbm.register_logger(_Quiet())
        booster = lightgbm.Booster(model_str=artifact.read_text("utf-8"))
        return LightgbmExecutable(booster, options.threads, max(0, rss_bytes(os.getpid()) - before))
    except Exception as error:  # the library raises its own class, and ValueError for half a model
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{artifact.name} cannot be loaded by lightgbm {lightgbm.__version__}: {said}") from error


class _Quiet:
    """The library logs to stdout without."""

    def info(self, _message: str) -> None:
        """Nothing."""

    def warning(self, _message: str) -> None:
        """Nothing: what matters it raises."""


def _objective(booster: lightgbm.Booster) -> str:
    head = booster.model_to_string(num_iteration=1).partition("\n\n")[0]
    return next((line[len("objective=") :] for line in head.splitlines() if line.startswith("objective=")), "")
