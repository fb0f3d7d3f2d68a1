"""Made-up rows that exercise a fitted estimator: around the values it has learnt, and on both sides of its thresholds.

Rows are float32, as the served model takes them, and the estimator is asked about the very same numbers. Otherwise a
tree would see a value fall on the other side of a threshold for no fault of the conversion.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration
from setpoint.engines import one_line

_ROWS = 255
_ANCHORS = ("support_vectors_", "_fit_X", "cluster_centers_", "theta_", "means_", "X_train_")
_METHODS = ("predict", "transform")

Rows = NDArray[np.float32]


def made_up_rows(estimator: Any, columns: int) -> Rows:
    """Rows that the estimator takes; the same for the same estimator.

    Returns:
        float32 ``[n_rows, columns]``.

    Raises:
        InvalidConfiguration: it takes none of the kinds of rows tried.
    """
    random = np.random.default_rng(0)
    rows = np.concatenate([_rows_for(estimator, columns, random), np.zeros((1, columns))]).astype(np.float32)
    whole = random.integers(0, 3, rows.shape).astype(np.float32)
    problem = ""
    for candidate in (rows, rows[:-1], np.abs(rows), whole):  # some take no zeros, no negative numbers, only counts
        try:
            _ask(estimator, candidate)
        except Exception as error:  # the estimator's own code
            problem = problem or one_line(error)
            continue
        return candidate
    raise InvalidConfiguration(
        f"{type(estimator).__name__} takes none of the made-up rows ({problem});"
        " give real ones: --sample rows.npz with one array of rows"
    )


def _ask(estimator: Any, rows: Rows) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in _METHODS:
            if hasattr(estimator, method):
                getattr(estimator, method)(rows.astype(np.float64))
                return


def _first_step(estimator: Any) -> Any:
    """The part that sees the columns as they come."""
    for _, step in getattr(estimator, "steps", ()):
        if step is not None and step != "passthrough":
            return _first_step(step)
    return estimator


def _rows_for(estimator: Any, columns: int, random: np.random.Generator) -> NDArray[np.float64]:
    """``[_ROWS, columns]``, a third each: around what was learnt, near points that are kept, at thresholds."""
    first = _first_step(estimator)
    if hasattr(first, "transformers_"):
        return _rows_by_column(first, columns, random)
    categories = getattr(first, "categories_", ())
    if len(categories) == columns and all(np.issubdtype(np.asarray(values).dtype, np.number) for values in categories):
        return np.stack([random.choice(np.asarray(values, np.float64), _ROWS) for values in categories], axis=1)
    rows = _spread(first, columns, random)
    rows[_ROWS // 3 : 2 * _ROWS // 3] = _anchored(first, rows[_ROWS // 3 : 2 * _ROWS // 3], random)
    rows[2 * _ROWS // 3 :] = _at_thresholds(first, rows[2 * _ROWS // 3 :], random)
    return rows


def _rows_by_column(transformer: Any, columns: int, random: np.random.Generator) -> NDArray[np.float64]:
    """For a ColumnTransformer, each group of columns as its own transformer wants it."""
    rows = random.standard_normal((_ROWS, columns))
    for _, part, chosen in transformer.transformers_:
        if hasattr(part, "get_params"):
            places = np.arange(columns)[chosen]
            rows[:, places] = _rows_for(part, len(places), random)
    return rows


def _spread(first: Any, columns: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Normally distributed around what was learnt, a quarter of the rows three times as far out."""
    center, scale = np.zeros(columns), np.ones(columns)
    points = _points(first, columns)
    low, high = (_fitted(first, name, columns) for name in ("data_min_", "data_max_"))
    if points is not None:
        center, scale = points.mean(axis=0), points.std(axis=0)
    elif low is not None and high is not None:
        center, scale = (low + high) / 2, (high - low) / 2
    else:
        known = [_fitted(first, name, columns) for name in ("mean_", "center_", "statistics_")]
        center = next((value for value in known if value is not None), center)
        width = _fitted(first, "scale_", columns)
        scale = width if width is not None else np.maximum(np.abs(center), 1.0)
    far = np.array([1.0, 1.0, 1.0, 3.0])[np.arange(_ROWS) % 4, None]
    rows: NDArray[np.float64] = center + scale * far * random.standard_normal((_ROWS, columns))
    return rows


def _fitted(estimator: Any, name: str, columns: int) -> NDArray[np.float64] | None:
    value = getattr(estimator, name, None)
    if isinstance(value, np.ndarray) and value.shape == (columns,) and np.isfinite(value.astype(np.float64)).all():
        return value.astype(np.float64)
    return None


def _points(first: Any, columns: int) -> NDArray[np.float64] | None:
    """Points that the estimator keeps: support vectors, neighbours, centres."""
    for estimator in _nested(first):
        for name in _ANCHORS:
            points = getattr(estimator, name, None)
            if isinstance(points, np.ndarray) and points.ndim == 2 and points.shape[1] == columns and len(points):
                return points.astype(np.float64)
    return None


def _anchored(first: Any, rows: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Rows near kept points; the given ones where none are kept."""
    points = _points(first, rows.shape[1])
    if points is None:
        return rows
    spread = points.std(axis=0)
    noise = 0.1 * np.where(spread > 0, spread, 1.0) * random.standard_normal(rows.shape)
    return points[random.integers(0, len(points), len(rows))] + noise


def _at_thresholds(first: Any, rows: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Values between the thresholds of trees, and half of them at, just below or just above one."""
    found: list[list[float]] = [[] for _ in range(rows.shape[1])]
    for features, thresholds in _splits(first):
        for feature, threshold in zip(features, thresholds, strict=True):
            if 0 <= feature < len(found) and np.isfinite(threshold):
                found[int(feature)].append(float(threshold))
    rows = rows.copy()
    for column, values in enumerate(found):
        if not values:
            continue
        margin = 0.1 * (max(values) - min(values)) + 1e-3
        between = random.uniform(min(values) - margin, max(values) + margin, len(rows))
        at = random.choice(np.array(values, np.float32), len(rows))
        toward = random.choice(np.array([-np.inf, 0, np.inf], np.float32), len(rows))
        near = np.where(toward == 0, at, np.nextafter(at, toward))
        rows[:, column] = np.where(random.random(len(rows)) < 0.5, near, between)
    return rows


def _splits(first: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for estimator in _nested(first):
        if hasattr(estimator, "tree_"):
            inner = estimator.tree_.feature >= 0
            yield estimator.tree_.feature[inner], estimator.tree_.threshold[inner]
        for predictor in np.ravel(np.array(getattr(estimator, "_predictors", ()), dtype=object)):
            inner = predictor.nodes["is_leaf"] == 0
            yield predictor.nodes["feature_idx"][inner], predictor.nodes["num_threshold"][inner]


def _nested(estimator: Any) -> Iterator[Any]:
    """An estimator and the fitted ones inside it, such as the trees of a forest."""
    yield estimator
    for inner in np.ravel(np.array(getattr(estimator, "estimators_", ()), dtype=object)):
        if hasattr(inner, "get_params"):
            yield from _nested(inner)
