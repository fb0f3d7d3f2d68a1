"""Numbers of large JSON lists straight into arrays: no Python object is made for any of them.

simdjson reads numbers as exactly as msgspec does (tested), in half the time or less. What it does not read as numbers
(``null`` for NaN, integers beyond 64 bits, anything malformed) is left to the reader for everything, which says what is
wrong.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import Datatype

if TYPE_CHECKING:
    from simdjson import Parser

WORTHWHILE_ELEMENTS = 64
WORTHWHILE_BYTES = 1024
"""Shorter lists are read faster by one call to msgspec."""
_PIECE_BYTES = 256 * 1024
"""Read at once: it fits a core's cache, and bounds the parser's memory, which is thirteen times that."""
_SLICE_BYTES = 4 * _PIECE_BYTES
"""About a millisecond's reading, after which others may have their turn."""
_NESTED_LIMIT_BYTES = 16 << 20
"""Nested lists are read in one piece: some 2 ms a MiB, during which nobody else has a turn."""
_KEPT_PARSER_BYTES = 4 << 20
_RANK_LIMIT = 32
_BEYOND_STRUCTURE = bytes(set(range(256)) - set(b"[],"))

Numbers = tuple[NDArray[Any] | None, int]
"""An array, or None where there are not as many numbers as it should have; and how many there are."""


class NotNumbers(Exception):
    """Not a list of numbers that can be read here; perhaps valid all the same."""


class OutOfRange(Exception):
    """A number does not fit its datatype."""


class NumberReader:
    """Reads numbers of one datatype."""

    def __init__(self, datatype: Datatype) -> None:
        self._kind = "d" if datatype.is_float else "i" if datatype.dtype.kind == "i" else "u"
        self._read_as = np.dtype({"d": np.float64, "i": np.int64, "u": np.uint64}[self._kind])
        # ml_dtypes' bfloat16 overflows silently.
        self._dtype = np.dtype(np.float32) if datatype.name == "BF16" else datatype.dtype
        self._final = datatype.dtype
        self._range: np.iinfo[Any] | None = None
        if datatype.is_integer and datatype.itemsize_bytes < 8:
            self._range = np.iinfo(datatype.dtype)

    def flat(self, text: bytes, start: int, end: int, elements: int) -> Generator[None, None, Numbers]:
        """Read a flat list, a slice at a time.

        Args:
            text: JSON with a list from ``start`` to ``end``, brackets included.
            start: where the opening bracket is.
            end: behind the closing bracket.
            elements: how many there should be.

        Raises:
            NotNumbers: it is no flat list of numbers.
            OutOfRange: a number does not fit.
        """
        # Believe the shape only as far as the text could hold: two bytes a number.
        array = np.empty(elements, self._dtype) if 2 * elements <= end - start else None
        view = memoryview(text)
        count, position, last = 0, start + 1, end - 1
        slice_end = position + _SLICE_BYTES
        while True:
            comma = text.find(b",", position + _PIECE_BYTES, last)
            piece_end = last if comma < 0 else comma
            piece = b"".join((b"[", view[position:piece_end], b"]"))
            if piece.find(b"[", 1) >= 0:  # looked for here, where a core's cache has it: simdjson would see through it
                raise NotNumbers
            values = self._read(piece, _small_parser())
            if not values.size and elements:
                raise NotNumbers  # also what stands behind a comma too many
            if array is not None and count + values.size <= elements:
                self._put(values, array[count : count + values.size])
            count += values.size
            if comma < 0:
                return (self._finished(array) if array is not None and count == elements else None), count
            position = comma + 1
            if position > slice_end:
                slice_end = position + _SLICE_BYTES
                yield

    def nested(self, text: bytes | memoryview) -> NDArray[Any]:
        """Read lists in lists; the shape is what the nesting says.

        Args:
            text: JSON, all of it.

        Raises:
            NotNumbers: ragged, without elements, very long, or not of numbers.
            OutOfRange: a number does not fit.
        """
        if len(text) > _NESTED_LIMIT_BYTES:
            raise NotNumbers
        parser = _small_parser() if len(text) <= _KEPT_PARSER_BYTES else _new_parser()
        try:
            values, shape = _nested(parser, text, self._kind)
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise NotNumbers from error
        if math.prod(shape) != values.size // self._read_as.itemsize or _structure(shape) != _structure_of(text):
            raise NotNumbers
        array = np.empty(math.prod(shape), self._dtype)
        self._put(values.view(self._read_as), array)
        return self._finished(array).reshape(shape)

    def _read(self, text: bytes, parser: Parser) -> NDArray[Any]:
        try:
            return _flat(parser, text, self._kind).view(self._read_as)
        except (ValueError, TypeError, RuntimeError) as error:
            raise NotNumbers from error

    def _put(self, values: NDArray[Any], target: NDArray[Any]) -> None:
        limits = self._range
        if limits is not None and values.size and (values.min() < limits.min or values.max() > limits.max):
            raise OutOfRange
        try:
            with np.errstate(over="raise"):
                target[...] = values
        except FloatingPointError as error:
            raise OutOfRange from error

    def _finished(self, array: NDArray[Any]) -> NDArray[Any]:
        return array if self._dtype == self._final else array.astype(self._final)


def _flat(parser: Parser, text: bytes, kind: str) -> NDArray[np.uint8]:
    """The parser must be free of what it gave before: all but the numbers dies with this frame."""
    found: Any = parser.parse(text)
    return np.frombuffer(found.as_buffer(of_type=kind), np.uint8) if len(found) else np.empty(0, np.uint8)


def _nested(parser: Parser, text: bytes | memoryview, kind: str) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    found: Any = parser.parse(text)
    shape = []
    inside = found
    while hasattr(inside, "as_buffer"):
        shape.append(len(inside))
        inside = inside[0]
    if not 0 < len(shape) <= _RANK_LIMIT:
        raise ValueError("not a tensor")
    return np.frombuffer(found.as_buffer(of_type=kind), np.uint8), tuple(shape)


def _structure(shape: tuple[int, ...]) -> bytes:
    """Brackets and commas of a tensor as nested lists."""
    text = b"[%b]" % (b"," * (shape[-1] - 1))
    for length in reversed(shape[:-1]):
        text = b"[%b]" % b",".join([text] * length)
    return text


def _structure_of(text: bytes | memoryview) -> bytes:
    """Brackets and commas of a text; in pieces, since one of the text's length would be memory never touched before."""
    starts = range(0, len(text), _PIECE_BYTES)
    return b"".join([bytes(text[start : start + _PIECE_BYTES]).translate(None, _BEYOND_STRUCTURE) for start in starts])


def _new_parser() -> Parser:
    from simdjson import Parser  # 8 ms, for those only who send large JSON

    return Parser()


@lru_cache(maxsize=1)
def _small_parser() -> Parser:
    return _new_parser()
