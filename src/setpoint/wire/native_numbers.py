"""The native reader of JSON numbers (``native/numbers.c``), where it was built: its library, and calls of it.

Absent (no compiler when Setpoint was installed) or of another time, simdjson reads instead: the same numbers, in two or
three times the time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.wire.json_numbers import RANK_LIMIT, Elements, Nested, NotNumbers, Numbers, OutOfRange

LIBRARY = Path(__file__).with_name("native") / "setpoint_numbers.so"
_ABI = 1
_SMALLEST, _LARGEST = -342, 308
"""Exponents of ten: 19 digits times what is below are zero as a double, times what is above infinite."""
_SLICE_BYTES = 1 << 20
"""About a millisecond's reading, after which others may have their turn."""
_SLICE_UNDECIDED = 256
"""Numbers that Python reads take microseconds each."""
_DONE, _PAUSED, _UNDECIDED = range(3)


class _Reading(ctypes.Structure):
    """``struct reading`` of numbers.c, which says what the fields are."""

    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in (
                *("position", "end", "pause", "number_end", "behind", "count", "capacity", "beyond", "width"),
                *("negative_limit", "positive_limit", "negative_limit64", "positive_limit64"),
                *("rank_limit", "rank", "depth"),
            )
        ),
        ("numbers", ctypes.c_void_p),
        ("powers", ctypes.c_void_p),
        ("lengths", ctypes.c_uint64 * RANK_LIMIT),
        ("counts", ctypes.c_uint64 * RANK_LIMIT),
    )


_Memory = ctypes.c_char * 0
"""Tells where a buffer lies; ``array.ctypes`` does in four times the time, which a list of 64 numbers would feel."""


@lru_cache(maxsize=1)
def native_library() -> ctypes.CDLL | None:
    """The library; None where it was not built, cannot be loaded here, or is not of this source."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
        abi: int = library.setpoint_numbers_abi()
    except (OSError, AttributeError):
        return None
    return library if abi == _ABI else None


@lru_cache(maxsize=1)
def _powers() -> NDArray[np.uint64]:
    """The first 128 bits of each power of ten, shape ``[exponents, 2]``, high half first; made in a millisecond.

    Powers of five, which differ from those of ten in the exponent of two only. Rounded down, but reciprocals of up to
    63 bits up: so ask the proofs that numbers.c names.
    """
    halves = []
    for exponent in range(_SMALLEST, _LARGEST + 1):
        power = 5 ** abs(exponent)
        bits = power.bit_length()
        first = (power << 128 >> bits) if exponent >= 0 else (1 << 127 + bits) // power + (exponent >= -27)
        halves.append((first >> 64, first & (1 << 64) - 1))
    return np.array(halves, np.uint64)


class NativeLists:
    """Reads lists of numbers of one datatype straight into their array."""

    def __init__(self, elements: Elements, library: ctypes.CDLL) -> None:
        """For what ``elements`` says; ``library`` is ``native_library``'s."""
        self._elements = elements
        # float16 is made of a float64 by numpy: a float32 between would round twice.
        self._dtype: np.dtype[Any] = np.dtype(np.float64) if elements.dtype == np.float16 else elements.dtype
        about = _Reading(width=self._dtype.itemsize)
        if self._dtype.kind == "f":
            read = library.setpoint_numbers_float32 if self._dtype.itemsize == 4 else library.setpoint_numbers_float64
            about.powers = _powers().ctypes.data
        else:
            read = library.setpoint_numbers_integer
            own, widest = np.iinfo(self._dtype), np.iinfo(elements.read_as)
            about.negative_limit, about.positive_limit = -int(own.min), int(own.max)
            about.negative_limit64, about.positive_limit64 = -int(widest.min), int(widest.max)
        read.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        self._read = read
        self._about = bytes(about)

    def flat(self, text: bytes, start: int, end: int, elements: int) -> Generator[None, None, Numbers]:
        """As ``json_numbers.Lists.flat``."""
        # Believe the shape only as far as the text could hold: two bytes a number.
        capacity = elements if 2 * elements <= end - start else 0
        array = np.empty(capacity, self._dtype)
        reading = yield from self._lists(text, start, end, array, 1)
        if reading.count <= elements and reading.beyond:
            raise OutOfRange
        if reading.count != elements:
            return None, reading.count
        return self._finished(array), reading.count

    def nested(self, text: bytes, start: int, end: int, most: int) -> Generator[None, None, Nested]:
        """As ``json_numbers.Lists.nested``."""
        array = np.empty(min(most, (end - start) // 2), self._dtype)  # pages of it that stay empty cost nothing
        reading = yield from self._lists(text, start, end, array, RANK_LIMIT)
        shape = tuple(reading.lengths[: reading.rank])
        if reading.count > array.size:
            return None, shape
        if reading.beyond:
            raise OutOfRange
        array.resize(reading.count, refcheck=False)
        return self._finished(array).reshape(shape), shape

    def _finished(self, array: NDArray[Any]) -> NDArray[Any]:
        if self._dtype != self._elements.dtype:
            doubles, array = array, np.empty(array.shape, self._elements.dtype)
            self._elements.put(doubles, array)
        return self._elements.finished(array)

    def _lists(
        self, text: bytes, start: int, end: int, array: NDArray[Any], rank_limit: int
    ) -> Generator[None, None, _Reading]:
        """Read, a slice at a time.

        Raises:
            NotNumbers: it is no regular list of numbers, of at most ``rank_limit`` axes.
        """
        reading = _Reading.from_buffer_copy(self._about)
        reading.position, reading.end, reading.pause = start, end, start + _SLICE_BYTES
        reading.capacity, reading.rank_limit = array.size, rank_limit
        reading.numbers = ctypes.addressof(_Memory.from_buffer(array.data))
        undecided = 0
        while (outcome := self._read(text, ctypes.addressof(reading))) != _DONE:
            if outcome == _UNDECIDED:
                self._decide(text, reading, array)
                undecided += 1
            elif outcome != _PAUSED:
                raise NotNumbers
            if outcome == _PAUSED or undecided == _SLICE_UNDECIDED:
                undecided = 0
                reading.pause = reading.position + _SLICE_BYTES
                yield
        return reading

    def _decide(self, text: bytes, reading: _Reading, array: NDArray[Any]) -> None:
        """Read one number whose first nineteen digits do not say which double is the nearest."""
        number = float(text[reading.position : reading.number_end])
        if number in (np.inf, -np.inf):
            raise NotNumbers
        if reading.count < reading.capacity:
            try:
                self._elements.put(np.array([number]), array[reading.count : reading.count + 1])
            except OutOfRange:
                reading.beyond = 1
        reading.count += 1
        reading.position = reading.number_end
        reading.behind = 1
