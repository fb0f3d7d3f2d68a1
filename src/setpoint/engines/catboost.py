"""The CatBoost engine, for models that no ONNX graph says: those with categorical features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, MissingExtra
from setpoint.engines.base import Arrays, EngineOptions
from setpoint.engines.boosters import BoosterExecutable, Task, loading
from setpoint.engines.declared import DeclaredTensor
from setpoint.engines.devices import OnCpu

try:
    import catboost
except ImportError as missing:
    raise MissingExtra("catboost", "catboost", "running a CatBoost model") from missing

_CLASSIFIERS = frozenset({"Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll"})
_EXPONENTS = frozenset({"Poisson", "Tweedie"})


class CatboostExecutable(BoosterExecutable):
    """A model. Used by one thread at a time.

    Attributes:
        objective: its loss function, such as ``Logloss``.
        categorical: names of its categorical features. With any, each feature is an input of its own: a string, or a
            number; without, all numbers come as one table.
    """

    def __init__(self, model: catboost.CatBoost, threads: int, memory_bytes: int) -> None:
        self._threads = threads
        self.objective = str((model.get_all_params() or {}).get("loss_function", "")).partition(":")[0]
        if model.get_text_feature_indices() or model.get_embedding_feature_indices():
            raise InvalidConfiguration("the CatBoost model takes text or embedding features, which are not served")
        names = [str(name) for name in model.feature_names_]
        positions = set(model.get_cat_feature_indices())
        self.categorical = tuple(name for position, name in enumerate(names) if position in positions)
        super().__init__(model, _task(model, self.objective, len(names)), memory_bytes)
        if self.categorical:
            self.inputs = tuple(
                DeclaredTensor(name, "BYTES" if position in positions else "FP32", ("rows",))
                for position, name in enumerate(names)
            )
        kinds = {True: "Probability", False: "Exponent" if self.objective in _EXPONENTS else "RawFormulaVal"}
        self._prediction_type = kinds[bool(self.task.labels)]

    def _predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.booster.predict(rows, prediction_type=self._prediction_type, thread_count=self._threads))

    def _rows(self, inputs: Arrays) -> NDArray[Any]:
        if not self.categorical:
            return super()._rows(inputs)
        first = inputs[self.inputs[0].name]
        rows = np.empty((len(first), len(self.inputs)), np.object_)
        for position, tensor in enumerate(self.inputs):
            values = inputs[tensor.name].tolist()
            if tensor.datatype == "BYTES":
                values = [bytes(value).decode("utf-8", "replace") for value in values]
            rows[:, position] = values
        return rows


class CatboostEngine(OnCpu):
    """Loads ``.cbm`` models."""

    name = "catboost"

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> CatboostExecutable:
        """Load a model file. ``entry`` is not used.

        Raises:
            InvalidConfiguration: it takes features that are not served.
            ModelError: it cannot be loaded.
        """
        return load(artifact, options)


def load(artifact: Path, options: EngineOptions) -> CatboostExecutable:
    """Load a model file.

    Raises:
        InvalidConfiguration: it takes features that are not served.
        ModelError: it cannot be loaded.
    """
    with loading("catboost", catboost.__version__, artifact, options) as grown_bytes:
        model = catboost.CatBoost()
        model.load_model(str(artifact), format="cbm")
        executable = CatboostExecutable(model, options.threads, grown_bytes())
    return executable


def _task(model: catboost.CatBoost, objective: str, columns: int) -> Task:
    classes = np.asarray(model.classes_)
    if objective in _CLASSIFIERS and len(classes):
        whole = classes.dtype.kind in "iu" or (classes.dtype.kind == "f" and bool(np.all(classes == np.floor(classes))))
        return Task(columns, tuple(int(label) if whole else str(label) for label in classes.tolist()))
    if objective in ("Logloss", "CrossEntropy"):  # trained with probabilities as targets: no classes are recorded
        return Task(columns, (0, 1))
    bias = model.get_scale_and_bias()[1]  # one number, or one for each of several targets
    return Task(columns, width=len(bias) if isinstance(bias, list | tuple | np.ndarray) and len(bias) > 1 else 0)
