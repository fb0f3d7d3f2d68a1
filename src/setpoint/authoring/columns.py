"""An endpoint said in tensors: which annotations have a V2 form, and the way from arrays to arguments and back.

A *column* is one input or output tensor. It is made of an element (``str``, ``bytes``, ``int``, ``float``, ``bool``,
``Image``, ``Audio``, or an array of known rank) under zero or more ``list`` axes::

    unbatched   str → BYTES[1]    list[str] → BYTES[-1]    Tensor["float32", 384] → FP32[384]
    batched     list[str] → BYTES[-1]                      list[Tensor["float32", 384]] → FP32[-1, 384]

An output column must be rectangular whatever the model answers, so it takes one list axis at most and no free axis
inside that; an input's rows are rectangular already.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.audio import Audio
from setpoint.authoring.media import Image
from setpoint.authoring.tensor import array_form, fits
from setpoint.core import DATATYPES, FREE, InvalidRequest, ModelError, TensorSpec, datatype_of

_SCALARS: dict[Any, str] = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES", bytes: "BYTES"}
_FILES = (Image, Audio)


class Column(msgspec.Struct, frozen=True):
    """One tensor of an endpoint.

    Attributes:
        spec: as V2 clients see it.
        element: ``str``, ``bytes``, ``int``, ``float``, ``bool``, ``Image``, ``Audio``; ``np.ndarray`` for arrays.
        list_axes: how many leading axes are Python lists; the axes after them belong to the array.
        optional: the annotation allows None, which a tensor can say of floats alone: NaN.
    """

    spec: TensorSpec
    element: Any
    list_axes: int
    optional: bool = False

    def to_argument(self, array: NDArray[Any]) -> Any:
        """Turn a V2 input into what the annotation promises. Arrays are copied: the caller's memory is lent.

        Raises:
            InvalidRequest: a BYTES element is not UTF-8 text, or not the file it should be.
        """
        if self.element is np.ndarray:
            owned = np.array(array, copy=True)
            return owned if self.list_axes == 0 else list(owned)
        if self.element is str or self.element in _FILES:
            convert = _text if self.element is str else self.element
            try:
                values = _each(convert, array.tolist())
            except ValueError as error:
                raise InvalidRequest(f"input {self.spec.name!r}: {error}") from error
        else:
            values = array.tolist()
        if self.optional and self.element is float:
            values = _each(_none_for_nan, values)
        if self.list_axes:
            return values
        if not values:
            raise InvalidRequest(f"input {self.spec.name!r}: expected shape {list(self.spec.shape)}, got no element")
        return values[0]

    def to_array(self, value: Any) -> NDArray[Any]:
        """Turn what the model returned into the declared tensor.

        Raises:
            ModelError: wrong type or shape.
        """
        try:
            if self.element is not np.ndarray and self.list_axes == 0:
                value = [value]
            array = self._bytes_array(value) if self.spec.datatype == "BYTES" else self._number_array(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"output {self.spec.name!r}: expected {self._expected()}: {error}") from error
        if not fits(array.shape, self.spec.shape):
            raise ModelError(
                f"output {self.spec.name!r}: expected shape {list(self.spec.shape)}, got {list(array.shape)}"
            )
        return array

    def _number_array(self, value: Any) -> NDArray[Any]:
        dtype = self.spec.type.dtype
        array = np.asarray(value)
        if array.dtype == dtype:
            return np.array(array, copy=True) if array.base is not None else array
        if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
            raise TypeError(f"got {array.dtype}")
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        if dtype.kind in "iu" and not np.array_equal(cast, array):
            raise OverflowError(f"a number is beyond {dtype}")
        return cast

    def _bytes_array(self, value: Any) -> NDArray[Any]:
        if self.element is str:
            elements = [item.encode() if isinstance(item, str) else _refuse(item) for item in value]
        else:
            elements = [
                bytes(item) if isinstance(item, bytes | bytearray | memoryview) else _refuse(item) for item in value
            ]
        array = np.empty(len(elements), np.object_)
        array[:] = elements
        return array

    def _expected(self) -> str:
        name = self.spec.datatype if self.element is np.ndarray else self.element.__name__
        return f"list of {name}" if self.list_axes else str(name)


def _refuse(item: Any) -> bytes:
    raise TypeError(f"got {type(item).__name__}")


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8 text, got {data[:16]!r}") from error


def _none_for_nan(value: float) -> float | None:
    return None if value != value else value


def _each(convert: Callable[[Any], Any], nested: Any) -> Any:
    if isinstance(nested, list):
        return [_each(convert, item) for item in nested]
    return convert(nested)


def input_column(name: str, annotation: Any) -> Column | None:
    """The tensor form of an argument, or None."""
    return _column(name, annotation, most_lists=2, files=True)


def output_columns(annotation: Any, *, batched: bool) -> tuple[tuple[Column, ...], Callable[[Any], list[Any]]] | None:
    """The tensor form of a result: its columns, and a function that takes a result apart into one value per column.

    Args:
        annotation: the endpoint's return annotation.
        batched: whether it is a list with one element per row.

    Returns:
        None when the result has no tensor form.
    """
    whole = _column("output", annotation, most_lists=1, files=False)
    if whole is not None:
        return (whole,), lambda result: [result]
    record = get_args(annotation)[0] if batched and get_args(annotation) else annotation
    names = _field_names(record)
    if not names:
        return None
    hints = get_type_hints(record)
    columns = [
        _column(name, types.GenericAlias(list, hints[name]) if batched else hints[name], most_lists=1, files=False)
        for name in names
    ]
    if None in columns:
        return None
    take = (lambda row, name: row[name]) if is_typeddict(record) else getattr

    def apart(result: Any) -> list[Any]:
        if batched:
            return [[take(row, name) for row in result] for name in names]
        return [take(result, name) for name in names]

    return tuple(column for column in columns if column is not None), apart


def _field_names(record: Any) -> tuple[str, ...]:
    if isinstance(record, type) and issubclass(record, msgspec.Struct):
        return record.__struct_fields__
    if isinstance(record, type) and dataclasses.is_dataclass(record):
        return tuple(field.name for field in dataclasses.fields(record))
    if is_typeddict(record):
        names = tuple(record.__annotations__)
        return names if len(record.__required_keys__) == len(names) else ()
    return ()


def _column(name: str, annotation: Any, *, most_lists: int, files: bool) -> Column | None:
    list_axes, element = 0, annotation
    while get_origin(element) is list and list_axes < most_lists:
        list_axes, element = list_axes + 1, get_args(element)[0]
    lists = (FREE,) * list_axes
    optional = False
    if files and get_origin(element) in (Union, types.UnionType) and len(get_args(element)) == 2:
        kinds = [kind for kind in get_args(element) if kind is not types.NoneType]
        if len(kinds) == 1 and kinds[0] in _SCALARS:
            optional, element = True, kinds[0]
    if (form := array_form(element)) is not None:
        if form.dtype is None or form.shape is None or list_axes > 1:
            return None
        if most_lists == 1 and list_axes and FREE in form.shape:
            return None
        return Column(TensorSpec(name, datatype_of(form.dtype).name, lists + form.shape), np.ndarray, list_axes)
    if element in _FILES and files:
        return Column(TensorSpec(name, DATATYPES["BYTES"].name, lists or (1,)), element, list_axes)
    try:
        datatype = _SCALARS.get(element)
    except TypeError:  # an annotation that cannot be hashed, such as Literal[[]]
        return None
    return Column(TensorSpec(name, datatype, lists or (1,)), element, list_axes, optional) if datatype else None
