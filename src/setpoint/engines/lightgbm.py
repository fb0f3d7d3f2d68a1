"""The LightGBM engine: models that no ONNX graph says exactly (categorical splits, linear trees, zero as missing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import MissingExtra
from setpoint.engines.base import EngineOptions
from setpoint.engines.boosters import BoosterExecutable, Task, loading
from setpoint.engines.devices import OnCpu

try:
    import lightgbm
except ImportError as missing:
    raise MissingExtra("lightgbm", "lightgbm", "running a LightGBM model") from missing

_CLASSIFIERS = frozenset({"binary", "multiclass", "multiclassova"})


class LightgbmExecutable(BoosterExecutable):
    """A booster. Used by one thread at a time.

    Attributes:
        objective: what it was trained for and how, such as ``binary sigmoid:1``; empty for a custom one.
    """

    def __init__(self, booster: lightgbm.Booster, threads: int, memory_bytes: int) -> None:
        self._threads = threads
        self.objective = _objective(booster)
        width = int(booster.num_model_per_iteration())
        if self.objective.partition(" ")[0] in _CLASSIFIERS:
            task = Task(booster.num_feature(), tuple(range(max(width, 2))))
        else:
            task = Task(booster.num_feature(), width=width if width > 1 else 0)
        super().__init__(booster, task, memory_bytes)

    def _predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.booster.predict(rows, num_threads=self._threads))


class LightgbmEngine(OnCpu):
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
    with loading("lightgbm", lightgbm.__version__, artifact, options) as grown_bytes:
        lightgbm.register_logger(_Quiet())
        booster = lightgbm.Booster(model_str=artifact.read_text("utf-8"))
        executable = LightgbmExecutable(booster, options.threads, grown_bytes())
    return executable


class _Quiet:
    """The library logs to stdout without."""

    def info(self, _message: str) -> None:
        """Nothing."""

    def warning(self, _message: str) -> None:
        """Nothing: what matters it raises."""


def _objective(booster: lightgbm.Booster) -> str:
    head = booster.model_to_string(num_iteration=1).partition("\n\n")[0]
    return next((line[len("objective=") :] for line in head.splitlines() if line.startswith("objective=")), "")
