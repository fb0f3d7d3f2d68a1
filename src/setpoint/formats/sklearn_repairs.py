"""What the ONNX converters of scikit-learn get wrong or refuse, put right on both sides of the conversion.

The check that follows every conversion (``sklearn_check``) found these, and judges the repairs against the estimator as
it was loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def prepare(estimator: Any) -> Any:
    """A copy that converts, and gives the same answers to float32 rows.

    - Histogram gradient boosting compares with double thresholds and its converter rounds them to the nearest float32,
      which may lie above the threshold: a float32 value equal to it would change sides. Rounded *down*, none does.
    - ``VotingClassifier.flatten_transform`` concerns ``transform()`` only, but its converter refuses it.
    """
    prepared = copy.deepcopy(estimator)
    for part in _parts(prepared):
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False
        for predictor in np.ravel(np.array(getattr(part, "_predictors", ()), dtype=object)):
            predictor.nodes["num_threshold"] = round_down(predictor.nodes["num_threshold"])
    return prepared


def round_down(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest float32 numbers that are not above the given ones, as doubles."""
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > values, below, nearest).astype(np.float64)


def _parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    for _, step in getattr(estimator, "steps", ()):
        yield from _parts(step)


def repaired_converters() -> dict[type, Callable[..., None]]:
    """Histogram gradient boosting, whose converter writes booleans where protobuf 6 and later want integers."""
    from skl2onnx.common._registration import get_converter
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kinds = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    return {kind: _with_integers(get_converter(f"Sklearn{kind.__name__}")) for kind in kinds}


def _with_integers(convert: Callable[..., None]) -> Callable[..., None]:
    def converted(scope: Any, operator: Any, container: Any) -> None:
        convert(scope, operator, _IntegerContainer(container))

    return converted


class _IntegerContainer:
    """A converter's container that stores lists of booleans as integers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> None:
        for name, value in attributes.items():
            if isinstance(value, list) and any(isinstance(element, bool | np.bool_) for element in value):
                attributes[name] = [int(element) for element in value]
        self._container.add_node(*arguments, **attributes)
