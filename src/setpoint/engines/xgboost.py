"""The XGBoost engine: models that no ONNX graph says exactly (categorical splits, linear boosters, several targets)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import MissingExtra
from setpoint.engines.base import EngineOptions
from setpoint.engines.boosters import BoosterExecutable, Task, loading
from setpoint.engines.devices import OnCpu

try:
    import xgboost
except ImportError as missing:
    raise MissingExtra("xgboost", "xgboost", "running an XGBoost model") from missing

_CLASSIFIERS = frozenset({"binary:logistic", "multi:softprob", "multi:softmax"})


class XgboostExecutable(BoosterExecutable):
    """A booster. Used by one thread at a time.

    Attributes:
        objective: what it was trained for, such as ``binary:logistic``.
        iterations: how many boosting rounds answer; 0 for all. Where training was stopped early, those up to the best.
    """

    def __init__(self, booster: xgboost.Booster, memory_bytes: int) -> None:
        learner = json.loads(booster.save_config())["learner"]
        self.objective = str(learner["objective"]["name"])
        best = booster.attributes().get("best_iteration")
        self.iterations = int(best) + 1 if best is not None else 0
        self._linear = learner["gradient_booster"]["name"] == "gblinear"
        super().__init__(booster, _task(booster, learner, self.objective), memory_bytes)

    def _predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        several = self.objective == "multi:softmax"  # its own prediction is the label alone
        values = self._asked(rows, margin=several)
        return _softmax(values) if several else values

    def _asked(self, rows: NDArray[Any], *, margin: bool) -> NDArray[Any]:
        # Features are not validated by name: a table of numbers has none, and its width the signature says.
        if self._linear:  # has no prediction in place
            return np.asarray(
                self.booster.predict(xgboost.DMatrix(rows), output_margin=margin, validate_features=False)
            )
        return np.asarray(
            self.booster.inplace_predict(
                rows,
                iteration_range=(0, self.iterations),
                predict_type="margin" if margin else "value",
                validate_features=False,
            )
        )


class XgboostEngine(OnCpu):
    """Loads ``.json`` and ``.ubj`` models."""

    name = "xgboost"

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> XgboostExecutable:
        """Load a model file. ``entry`` is not used.

        Raises:
            ModelError: it cannot be loaded.
        """
        return load(artifact, options)


def load(artifact: Path, options: EngineOptions) -> XgboostExecutable:
    """Load a model file.

    Raises:
        ModelError: it cannot be loaded.
    """
    with loading("xgboost", xgboost.__version__, artifact, options) as grown_bytes:
        booster = xgboost.Booster({"nthread": options.threads})
        # From memory: by a path, the library tells its two forms apart by the suffix and not by the content.
        booster.load_model(bytearray(artifact.read_bytes()))
        booster.set_param({"nthread": options.threads})
        executable = XgboostExecutable(booster, grown_bytes())
    return executable


def _task(booster: xgboost.Booster, learner: dict[str, Any], objective: str) -> Task:
    columns = int(booster.num_features())
    shape = learner["learner_model_param"]
    classes, targets = int(shape["num_class"]), int(shape.get("num_target", "1"))
    if objective in _CLASSIFIERS and targets == 1:
        return Task(columns, tuple(range(max(classes, 2))))
    width = max(classes, targets)
    return Task(columns, width=width if width > 1 else 0)


def _softmax(margins: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
