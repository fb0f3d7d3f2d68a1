"""``Tensor["float32", 384]``: an ndarray annotation that says dtype and shape, and the JSON form of arrays.

In JSON an array is nested lists of numbers. ``null`` stands for NaN in both directions (JSON has no NaN); an infinity
is written as ``null`` too. msgspec hands our types to ``decode_array`` as plain lists; those are checked by a second
typed pass in C (``msgspec.convert``) because ``numpy.array`` alone would take ``"1.5"`` or ``true`` for a number.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, FREE, Datatype, InvalidConfiguration, datatype_of

MOST_AXES = 16
"""Deepest nesting that is tried where an annotation leaves the number of axes open."""


class ArrayForm(msgspec.Struct, frozen=True):
    """What an array annotation promises.

    Attributes:
        dtype: None where any number or bool will do (a bare ``np.ndarray``).
        shape: axis lengths, -1 where free; None where any number of axes will do.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        dtype = "any dtype" if self.dtype is None else str(self.dtype)
        return f"{dtype} {'[...]' if self.shape is None else list(self.shape)}"


class _TensorType(type):
    """Makes ``isinstance(array, Tensor[...])`` true for arrays: msgspec asks that of what a decoding hook returns."""

    form: ArrayForm

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, np.ndarray)

    def __repr__(cls) -> str:
        return cls.__name__


class _Tensor(metaclass=_TensorType):
    """An ndarray of a given dtype and shape; only ever an annotation, never an instance.

    ``Tensor["float32", 384]`` has one axis of 384; ``Tensor["float32", None, 3]`` and ``Tensor["float32", -1, 3]`` a
    free one before three; ``Tensor["float32"]`` any shape. The dtype may be a numpy type as well
    (``Tensor[np.float32, 384]``), which type checkers like better than the string: they read strings as names.
    """

    form = ArrayForm(None, None)

    def __new__(cls) -> _Tensor:
        raise TypeError(f"{cls.__name__} is an annotation; make values with numpy")

    def __class_getitem__(cls, items: Any) -> _TensorType:
        dtype, *axes = items if isinstance(items, tuple) else (items,)
        return _tensor_type(_dtype(dtype), None if axes in ([], [...]) else tuple(_axis(axis) for axis in axes))


if TYPE_CHECKING:
    Tensor: Any
else:
    Tensor = _Tensor


@functools.cache
def _tensor_type(dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> _TensorType:
    axes = "" if shape is None else "".join(f", {length}" for length in shape)
    return _TensorType(f"Tensor[{dtype.name}{axes}]", (_Tensor,), {"form": ArrayForm(dtype, shape)})


def _dtype(given: Any) -> np.dtype[Any]:
    row = DATATYPES.get(given) if isinstance(given, str) else None
    if row is None and given == "bfloat16":
        row = DATATYPES["BF16"]
    try:
        row = row or datatype_of(np.dtype(given))
    except (TypeError, InvalidConfiguration):
        row = None
    if row is None or row.name == "BYTES":
        numeric = ", ".join(known.dtype.name for known in DATATYPES.values() if known.name != "BYTES")
        raise InvalidConfiguration(f"Tensor[{given!r}, ...]: expected a dtype out of {numeric}")
    return row.dtype


def _axis(given: Any) -> int:
    if given is None:
        return FREE
    if isinstance(given, int) and not isinstance(given, bool) and given >= FREE:
        return given
    raise InvalidConfiguration(f"Tensor[..., {given!r}]: an axis is a length, or None or -1 where it is free")


def array_form(annotation: Any) -> ArrayForm | None:
    """The form of a ``Tensor[...]``, ``np.ndarray`` or ``NDArray[...]`` annotation; None for any other type."""
    if isinstance(annotation, _TensorType):
        return annotation.form
    if annotation is np.ndarray:
        return ArrayForm(None, None)
    if get_origin(annotation) is not np.ndarray:
        return None
    arguments = get_args(annotation)  # ndarray[shape, dtype[scalar]]
    scalars = get_args(arguments[1]) if len(arguments) > 1 else ()
    if not scalars or not (isinstance(scalars[0], type) and issubclass(scalars[0], np.generic)):
        return ArrayForm(None, None)
    try:
        return ArrayForm(_dtype(scalars[0]), None)
    except InvalidConfiguration:
        return ArrayForm(None, None)  # np.generic, np.number: says nothing about the dtype


def decode_array(form: ArrayForm, value: Any) -> NDArray[Any]:
    """Turn nested lists into an array.

    Args:
        form: what the annotation promises.
        value: what JSON gave: numbers, bools, None, lists.

    Returns:
        a new array of ``form``'s dtype (bool, int64 or float64 by content where it has none) and shape.

    Raises:
        ValueError: wrong element types, ragged rows, numbers beyond the dtype, wrong shape.
    """
    axes = _depth(value) if form.shape is None else len(form.shape)
    row = datatype_of(form.dtype) if form.dtype is not None else None
    try:
        checked = msgspec.convert(value, _nested(_element(row), axes))
    except msgspec.ValidationError as error:
        raise ValueError(_inner(str(error), row)) from None
    try:
        with np.errstate(over="ignore"):
            if row is not None and row.name == "BF16":  # a dtype from outside numpy, which knows no None
                array = np.array(checked, np.float32).astype(row.dtype)
            else:
                array = np.array(checked, form.dtype)
    except OverflowError:
        raise ValueError(f"a number is beyond {form.dtype}") from None
    except ValueError:
        raise ValueError("rows of one array have different lengths") from None
    if array.dtype.hasobject:  # None among integers: numpy has made it an object array
        array = np.array(checked, dtype=np.float64)
    if (row is None or row.is_float) and array.dtype.kind not in "biu" and np.isinf(array).any():
        raise ValueError(f"a number is beyond {array.dtype}")  # JSON has no infinity, so it came from rounding
    return array if form.shape is None else _shaped(array, form.shape)


def _inner(message: str, row: Datatype | None) -> str:
    """msgspec will add where the array lies; its place inside the array must not look like a second such note."""
    what, _, place = message.partition(" - at `$")
    got = what.partition(", got ")[2].strip("`") or what
    expected = "numbers or bools" if row is None else f"{row.dtype} elements"
    return f"expected {expected}, got {got}" + (f" at {place.rstrip('`')}" if place else "")


def _element(row: Datatype | None) -> Any:
    if row is None:
        return bool | int | float | None
    if row.is_float:
        return float | None
    return int if row.is_integer else bool


@functools.cache
def _nested(element: Any, axes: int) -> Any:
    return element if axes == 0 else list[_nested(element, axes - 1)]  # type: ignore[misc]  # built, not declared


def _depth(value: Any) -> int:
    axes = 0
    while isinstance(value, list):
        axes += 1
        if axes > MOST_AXES:
            raise ValueError(f"an array has at most {MOST_AXES} axes")
        value = value[0] if value else None
    return axes


def _shaped(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.size == 0 and array.ndim < len(shape):  # [] says nothing about the axes inside it
        inner = tuple(max(length, 0) for length in shape[array.ndim :])
        array = array.reshape(array.shape + inner)
    if not fits(array.shape, shape):
        raise ValueError(f"expected shape {list(shape)}, got {list(array.shape)}")
    return array


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` is one of ``wanted``, in which -1 is any length."""
    return len(shape) == len(wanted) and all(want in (FREE, length) for length, want in zip(shape, wanted, strict=True))


def array_schema(form: ArrayForm) -> dict[str, Any]:
    """JSON Schema of an array's JSON form."""
    row = datatype_of(form.dtype) if form.dtype is not None else None
    if form.shape is None:
        example: list[float | bool] = [0.5] if row is None or row.is_float else [1] if row.is_integer else [True]
        kinds = ["array", "number", "boolean"] if row is None else "array"
        return {"type": kinds, "description": str(form), "examples": [example]}
    schema: dict[str, Any] = {"type": ["number", "null"]}
    if row is not None and not row.is_float:
        schema = {"type": "integer" if row.is_integer else "boolean"}
    for length in reversed(form.shape):
        schema = {"type": "array", "items": schema}
        if length != FREE:
            schema |= {"minItems": length, "maxItems": length}
    return schema | {"description": str(form)}
