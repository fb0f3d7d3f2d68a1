"""Tensors as JSON, flat and nested, in both directions.

JSON has no NaN: ``null`` stands for it in floating tensors, both ways.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Generator
from typing import Any, TypeVar

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from setpoint.core import DEFAULT_LIMITS, FREE, InvalidRequest, Limits, RequestTooLarge, TensorSpec
from setpoint.wire.json_body import decoding, excerpt
from setpoint.wire.json_numbers import WORTHWHILE_BYTES, WORTHWHILE_ELEMENTS, NotNumbers, OutOfRange, lists_of

_NESTED = re.compile(rb"\s*\[\s*\[")
_Result = TypeVar("_Result")
_LONGEST_AXIS = 2**31 - 1
_LONGEST_EMPTY_AXIS = 4096
"""Of a tensor without elements: no data stands behind its length, but a model may well compute for each of its rows."""


def refuse_overflow() -> None:
    """Make numbers beyond a floating type's range an error of this process, and not an infinity with a warning.

    A filter and no check: numpy looks for the overflow anyway, and a check of ours would cost each request 1 µs.
    """
    warnings.filterwarnings("error", "overflow encountered in cast", RuntimeWarning)


class TensorReader:
    """Reads JSON for one input of a model; built once, so that each request is cheap."""

    def __init__(self, spec: TensorSpec, limits: Limits = DEFAULT_LIMITS) -> None:
        datatype = spec.type
        self._limits = limits
        element: Any = str if datatype.name == "BYTES" else bool if datatype.name == "BOOL" else int
        if datatype.is_float:
            element = float
        self._spec = spec
        self._has_numbers = datatype.is_float or datatype.is_integer
        self._dtype = datatype.dtype
        # ml_dtypes' bfloat16 takes no None for NaN, and overflows silently.
        self._list_dtype = np.dtype(np.float32) if datatype.name == "BF16" else datatype.dtype
        self._last_shape: list[int] | tuple[int, ...] | None = None
        self._last_elements = 0
        self._decode_plain = msgspec.json.Decoder(list[element]).decode
        if datatype.is_float:
            element = float | None
        self._decode_flat = msgspec.json.Decoder(list[element]).decode
        nested: Any = element
        for _ in spec.shape:
            nested = list[nested]
        self._decode_nested = msgspec.json.Decoder(nested).decode

    def flat_or_nested(self, data: bytes | msgspec.Raw, shape: list[int], elements: int) -> NDArray[Any]:
        """Read V2 ``data`` for a stated shape.

        Args:
            data: a JSON list, flat or nested as ``shape`` says.
            shape: of the result; judged by ``check_shape`` already.
            elements: the product of ``shape``.

        Raises:
            InvalidRequest: wrong elements, wrong number of them, or ragged.
        """
        if elements > WORTHWHILE_ELEMENTS and self._has_numbers:
            try:
                return _finish(self.large(bytes(data), 0, len(memoryview(data)), shape, elements))
            except NotNumbers:
                pass  # read below, or refused there with the reason
        try:
            values = self._decode_plain(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            values = None
        if values is None:
            if len(shape) > 1 and _is_nested(data):
                array = self.nested(data)
                if not elements and list(array.shape) == shape[: array.ndim]:
                    return array.reshape(shape)  # nesting cannot say what lies inside an axis of length 0
                return self._of_shape(array, shape)
            with decoding(f"the data of input {self._spec.name!r}, {self._spec.datatype}{list(self._spec.shape)}"):
                values = self._decode_flat(data)
        if len(values) != elements:
            raise self._wrong_number(shape, elements, len(values))
        return self._array(values).reshape(shape)

    @property
    def takes_plain_numbers(self) -> bool:
        """Whether ``plain`` reads this input."""
        return self._has_numbers and self._list_dtype is self._dtype

    def plain(self, data: bytes, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """Read a flat JSON list of numbers for a known shape; None where it is something else, or does not fit."""
        try:
            return np.array(self._decode_plain(data), self._dtype).reshape(shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, RuntimeWarning, ValueError):
            return None

    def large(
        self, text: bytes, start: int, end: int, shape: list[int], elements: int
    ) -> Generator[None, None, NDArray[Any]]:
        """Read V2 ``data`` of numbers for a stated shape, a slice at a time.

        Args:
            text: JSON in which the data stands from ``start`` to ``end``.
            start: of the list.
            end: of the list.
            shape: of the result; judged by ``check_shape`` already.
            elements: the product of ``shape``.

        Raises:
            NotNumbers: read or refused by ``flat_or_nested`` only.
            InvalidRequest: wrong number of elements, a number beyond the datatype.
        """
        if not self._has_numbers:
            raise NotNumbers
        try:
            if len(shape) > 1 and _NESTED.match(text, start, end):
                array, found = yield from lists_of(self._spec.type).nested(text, start, end, elements)
                if array is None or list(found) != shape:
                    raise self._wrong_nesting(shape, found)
                return array
            array, count = yield from lists_of(self._spec.type).flat(text, start, end, elements)
        except OutOfRange as error:
            raise self._out_of_range() from error
        if array is None:
            raise self._wrong_number(shape, elements, count)
        return array.reshape(shape)

    def nested(self, data: bytes | msgspec.Raw) -> NDArray[Any]:
        """Read lists nested to the tensor's rank; the shape is what the nesting says.

        Raises:
            InvalidRequest: wrong elements, wrong depth, or ragged.
        """
        if self._has_numbers and len(memoryview(data)) > WORTHWHILE_BYTES:
            text = bytes(data)
            try:
                large, _ = _finish(lists_of(self._spec.type).nested(text, 0, len(text), self._limits.element_limit))
            except OutOfRange as error:
                raise self._out_of_range() from error
            except NotNumbers:
                pass  # read below, or refused there with the reason
            else:
                if large is not None and large.ndim == len(self._spec.shape):
                    return large
        with decoding(f"the value of input {self._spec.name!r}, {self._spec.datatype}{list(self._spec.shape)}"):
            values = self._decode_nested(data)
        return self._array(values)

    def _array(self, values: list[Any]) -> NDArray[Any]:
        if self._dtype.hasobject:
            values = _utf8(values)
        try:
            array = np.array(values, self._list_dtype)
            if self._list_dtype is not self._dtype:
                array = array.astype(self._dtype)
        except (OverflowError, RuntimeWarning) as error:
            raise self._out_of_range() from error
        except ValueError as error:
            raise InvalidRequest(
                f"input {self._spec.name!r} is ragged: lists of one level must have one length"
            ) from error
        if self._dtype.hasobject and any(isinstance(element, list) for element in array.ravel()[:1]):
            raise InvalidRequest(f"input {self._spec.name!r} is ragged: lists of one level must have one length")
        return array

    def _of_shape(self, array: NDArray[Any], shape: list[int]) -> NDArray[Any]:
        if list(array.shape) != shape:
            raise self._wrong_nesting(shape, array.shape)
        return array

    def _wrong_nesting(self, shape: list[int], found: tuple[int, ...]) -> InvalidRequest:
        return InvalidRequest(f"input {self._spec.name!r} has shape {shape}, its data is nested as {list(found)}")

    def _wrong_number(self, shape: list[int], elements: int, found: int) -> InvalidRequest:
        return InvalidRequest(
            f"input {self._spec.name!r} of shape {shape} needs {elements} elements, its data has {found}"
        )

    def _out_of_range(self) -> InvalidRequest:
        return InvalidRequest(
            f"input {self._spec.name!r} is {self._spec.datatype}, its data has a number beyond that range"
        )

    def check_shape(self, shape: list[int] | tuple[int, ...]) -> int:
        """Judge a shape against the signature; returns the number of elements.

        Raises:
            InvalidRequest: wrong rank or a wrong axis.
            RequestTooLarge: more elements than a request may have.
        """
        if shape == self._last_shape:  # most clients send one shape again and again
            return self._last_elements
        declared = self._spec.shape
        if len(shape) > self._limits.rank_limit:
            raise InvalidRequest(
                f"input {self._spec.name!r} has {len(shape)} axes, more than the limit of {self._limits.rank_limit} "
                "(limits.rank_limit)"
            )
        elements = 1
        if len(shape) == len(declared):
            for length, allowed in zip(shape, declared, strict=True):
                if not 0 <= length <= _LONGEST_AXIS or allowed not in (FREE, length):
                    break
                elements *= length
            else:
                if not elements and max(shape) > _LONGEST_EMPTY_AXIS:
                    raise InvalidRequest(
                        f"input {self._spec.name!r} has shape {list(shape)}: without elements, no axis may be longer "
                        f"than {_LONGEST_EMPTY_AXIS}"
                    )
                self._check_elements(elements)
                self._last_shape, self._last_elements = shape, elements
                return elements
        raise InvalidRequest(
            f"input {self._spec.name!r} has shape {excerpt(str(list(shape)))}, "
            f"the model takes {list(declared)}{f' (-1: up to {_LONGEST_AXIS})' if FREE in declared else ''}"
        )

    def _check_elements(self, elements: int) -> None:
        objects = self._dtype.hasobject
        limit, name = (
            (self._limits.bytes_element_limit, "limits.bytes_element_limit")
            if objects
            else (self._limits.element_limit, "limits.element_limit")
        )
        if elements > limit:
            raise RequestTooLarge(
                f"input {self._spec.name!r} has {elements} {'BYTES ' if objects else ''}elements, more than the limit "
                f"of {limit} ({name}); send fewer rows a request"
            )


def _finish(work: Generator[None, None, _Result]) -> _Result:
    """Without letting anybody have a turn."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: _Result = done.value
            return result


def _is_nested(data: bytes | msgspec.Raw) -> bool:
    return _NESTED.match(bytes(memoryview(data)[:64])) is not None


def _utf8(values: Any) -> Any:
    return values.encode() if isinstance(values, str) else [_utf8(value) for value in values]


def encode_flat(array: NDArray[Any]) -> bytes:
    """All elements as one flat JSON list, row-major."""
    if array.ndim == 1 or array.dtype.hasobject or array.dtype.kind == "V" or array.dtype.itemsize == 2:
        return encode_nested(array.reshape(-1))
    return orjson.dumps(array.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)


def encode_nested(array: NDArray[Any]) -> bytes:
    """Elements nested as the array's axes are. Floats of 16 bits are written with the digits that give them back."""
    if array.dtype.hasobject:
        return msgspec.json.encode(_texts(array.tolist()))
    if array.dtype.kind == "V" or (array.dtype.itemsize == 2 and array.dtype.kind == "f"):
        array = array.astype(np.float32)  # float16, and ml_dtypes.bfloat16, whose kind is V
    if array.ndim == 0:
        value = array.item()
        return msgspec.json.encode(None if isinstance(value, float) and not math.isfinite(value) else value)
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values if isinstance(values, str) else bytes(values).decode("utf-8", "replace")
