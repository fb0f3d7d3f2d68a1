"""Numbers of large JSON lists straight into arrays: no Python object is made for any of them.

Two readers do it, as exactly as msgspec does (tested): the native one, where it was built, and simdjson. What they do
not read as numbers (``null`` for NaN, an integer beyond its 64 bits, anything malformed) is left to the reader for
everything, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from setpoint.core import Datatype

WORTHWHILE_ELEMENTS = 64
WORTHWHILE_BYTES = 1024
"""Shorter lists are read faster by one call to msgspec."""
RANK_LIMIT = 32
"""Lists in lists; the same number as in numbers.c."""

Numbers = tuple[NDArray[Any] | None, int]
"""An array, or None where there are not as many numbers as it should have; and how many there are."""
Nested = tuple[NDArray[Any] | None, tuple[int, ...]]
"""An array, or None where it would have more elements than it may; and the shape that the nesting says."""


class NotNumbers(Exception):
    """Not a list of numbers that can be read here; perhaps valid all the same."""


class OutOfRange(Exception):
    """A number does not fit its datatype."""


class Elements:
    """What numbers of one datatype become.

    Attributes:
        dtype: of the array that is filled; the datatype's, but for BF16.
        read_as: what holds each of them as it is read: float64, int64 or uint64.
    """

    def __init__(self, datatype: Datatype) -> None:
        """For floats and integers."""
        kind = "f" if datatype.is_float else datatype.dtype.kind
        self.read_as: np.dtype[Any] = np.dtype({"f": np.float64, "i": np.int64, "u": np.uint64}[kind])
        # ml_dtypes' bfloat16 overflows silently.
        self.dtype = np.dtype(np.float32) if datatype.name == "BF16" else datatype.dtype
        self._final = datatype.dtype
        self._range: np.iinfo[Any] | None = None
        if datatype.is_integer and datatype.itemsize_bytes < 8:
            self._range = np.iinfo(datatype.dtype)

    def put(self, values: NDArray[Any], target: NDArray[Any]) -> None:
        """Convert ``values``, of ``read_as``, into ``target``.

        Raises:
            OutOfRange: one does not fit.
        """
        limits = self._range
        if limits is not None and values.size and (values.min() < limits.min or values.max() > limits.max):
            raise OutOfRange
        try:
            with np.errstate(over="raise"):
                target[...] = values
        except FloatingPointError as error:
            raise OutOfRange from error

    def finished(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of ``dtype`` as one of the datatype."""
        return array if self.dtype == self._final else array.astype(self._final)


class Lists(Protocol):
    """Reads lists of numbers of one datatype."""

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

    def nested(self, text: bytes, start: int, end: int, most: int) -> Generator[None, None, Nested]:
        """Read lists in lists, a slice at a time; the shape is what the nesting says.

        Args:
            text: JSON with a list from ``start`` to ``end``, brackets included.
            start: where the opening bracket is.
            end: behind the closing bracket.
            most: elements that it may have.

        Raises:
            NotNumbers: ragged, without elements, of very many axes, too long for this reader, or not of numbers.
            OutOfRange: a number does not fit.
        """


def has_native_reader() -> bool:
    """Whether the native reader was built and can be loaded."""
    from setpoint.wire.native_numbers import native_library

    return native_library() is not None


@cache
def lists_of(datatype: Datatype) -> Lists:
    """The quickest reader that is here. Loads what it needs, so ask when the first large list comes."""
    from setpoint.wire.native_numbers import NativeLists, native_library

    library = native_library()
    if library is not None:
        return NativeLists(Elements(datatype), library)
    from setpoint.wire.simdjson_numbers import SimdjsonLists

    return SimdjsonLists(Elements(datatype))
