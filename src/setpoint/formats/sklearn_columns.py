"""Which columns a fitted pipeline takes, of which kind, and rows of them that exercise it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from setpoint.authoring import TableColumn

_ROWS = 120
_HOLES = 0.15
_NUMERIC_MARKS = ("mean_", "center_", "data_min_", "max_abs_", "n_bins_", "quantiles_", "lambdas_", "bsplines_")
_UNKNOWN = "never seen before"
Values = dict[str, list[Any]]


class Learnt(msgspec.Struct):
    """What fitting left behind of one column.

    Attributes:
        kind: as a table column's; empty while nothing tells.
        categories: values it knows.
        centre, spread: where its numbers lie.
    """

    kind: str = ""
    categories: list[Any] = []
    centre: float = 0.0
    spread: float = 1.0


def takes_named_columns(estimator: Any) -> bool:
    """Whether it was fitted with a data frame and treats its columns by name."""
    return hasattr(estimator, "feature_names_in_") and any(
        hasattr(part, "transformers_") or _has_text(part) for part in _parts(estimator)
    )


def columns_of(estimator: Any) -> dict[str, Learnt]:
    """The columns it looks at, in its order, and what is known of each."""
    names = [str(name) for name in estimator.feature_names_in_]
    found: dict[str, Learnt] = {}
    _learn(estimator, names, found)
    return {name: found[name] for name in names if name in found}


def table_columns(learnt: dict[str, Learnt]) -> tuple[TableColumn, ...]:
    """The same as the table's columns; what nothing tells of is a number."""
    return tuple(TableColumn(name, one.kind or "number") for name, one in learnt.items())


def made_up_columns(learnt: dict[str, Learnt], *, unknown: bool, holes: bool, negative: bool = True) -> Values:
    """Rows of every kind, the same every time.

    Args:
        learnt: as ``columns_of`` says.
        unknown: some texts are of no known category.
        holes: some values are missing.
        negative: numbers may be below zero.
    """
    random = np.random.default_rng(0)
    values: Values = {}
    for name, one in learnt.items():
        column = _made_up(one, random, unknown)
        if not negative and one.kind in ("", "number"):
            column = [abs(value) for value in column]
        if holes and one.kind != "boolean":
            column = [
                None if hole else value for value, hole in zip(column, random.random(_ROWS) < _HOLES, strict=True)
            ]
        values[name] = column
    return values


def _made_up(one: Learnt, random: np.random.Generator, unknown: bool) -> list[Any]:
    kind = one.kind or "number"
    if kind == "text":
        words = [str(word) for word in one.categories] or ["a", "b", "two words", ""]
        words += [_UNKNOWN] if unknown else []
        return [words[index] for index in random.integers(0, len(words), _ROWS)]
    if kind == "boolean":
        return [bool(value) for value in random.random(_ROWS) < 0.5]
    if one.categories:
        numbers = [float(np.float32(one.categories[index])) for index in random.integers(0, len(one.categories), _ROWS)]
    else:
        drawn = one.centre + one.spread * random.standard_normal(_ROWS) * np.where(random.random(_ROWS) < 0.8, 1, 4)
        numbers = drawn.astype(np.float32).astype(np.float64).tolist()
    return [int(number) for number in numbers] if kind == "integer" else numbers


def _parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    for _, step in getattr(estimator, "steps", ()):
        if step is not None and step != "passthrough":
            yield from _parts(step)
    for transformer in getattr(estimator, "transformers_", ()):
        if not isinstance(transformer[1], str):
            yield from _parts(transformer[1])


def _has_text(part: Any) -> bool:
    return hasattr(part, "vocabulary_") or any(
        np.asarray(values).dtype.kind in "OU" for values in getattr(part, "categories_", ())
    )


def _learn(part: Any, names: list[str], found: dict[str, Learnt]) -> None:
    """Gather what a part knows of the columns it sees, in order."""
    for name in names:
        found.setdefault(name, Learnt())
    if hasattr(part, "transformers_"):
        for name in names:
            found.pop(name, None)
        for _, transformer, chosen in part.transformers_:
            if isinstance(transformer, str) and transformer == "drop":
                continue
            _learn(transformer, _chosen(names, chosen), found)
        return
    steps = getattr(part, "steps", None)
    if steps is not None:
        for _, step in steps:
            if step is None or isinstance(step, str):
                continue
            _learn(step, names, found)
            if not _keeps_columns(step):
                return
        return
    _read(part, names, found)


def _read(part: Any, names: list[str], found: dict[str, Learnt]) -> None:
    if hasattr(part, "vocabulary_"):
        for name in names:
            found[name].kind = "text"
            found[name].categories = found[name].categories or list(part.vocabulary_)[:200]
    for name, values in zip(names, getattr(part, "categories_", ()), strict=False):
        known = [value for value in np.asarray(values).tolist() if value is not None and value == value]
        found[name].categories = known
        found[name].kind = _kind_of(known, np.asarray(values).dtype)
    statistics = getattr(part, "statistics_", None)
    if statistics is not None:
        for name, value in zip(names, np.asarray(statistics, object).tolist(), strict=False):
            found[name].kind = found[name].kind or ("text" if isinstance(value, str) else "number")
            if not isinstance(value, str) and found[name].kind == "number":
                found[name].centre = float(value)
                found[name].spread = max(1.0, abs(float(value)))
    for mark in _NUMERIC_MARKS:
        values = getattr(part, mark, None)
        if values is None:
            continue
        for position, name in enumerate(names):
            found[name].kind = found[name].kind or "number"
            if mark in ("mean_", "center_") and np.ndim(values) == 1:
                found[name].centre = float(values[position])
                scale = getattr(part, "scale_", None)
                found[name].spread = float(scale[position]) if scale is not None else 1.0


def _kind_of(known: list[Any], dtype: Any) -> str:
    if any(isinstance(value, str) for value in known):
        return "text"
    if dtype.kind == "b" or any(isinstance(value, bool) for value in known):
        return "boolean"
    return "integer" if dtype.kind in "iu" else "number"


def _keeps_columns(step: Any) -> bool:
    """Whether what follows a step still sees the columns as they came, one for one."""
    return hasattr(step, "statistics_") and not getattr(step, "add_indicator", False)


def _chosen(names: list[str], chosen: Any) -> list[str]:
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, slice):
        if isinstance(chosen.start, str) or isinstance(chosen.stop, str):
            first = names.index(chosen.start) if chosen.start is not None else 0
            last = names.index(chosen.stop) + 1 if chosen.stop is not None else len(names)
            return names[first:last]
        return names[chosen]
    picked = np.asarray(chosen)
    if picked.dtype.kind in "OUS":
        return [str(name) for name in picked.tolist()]
    return [str(name) for name in np.asarray(names, object)[picked].tolist()] if picked.size else []
