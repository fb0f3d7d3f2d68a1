"""simdjson as a reader of large JSON lists of numbers: where the native one was not built.

It reads numbers as exactly as msgspec does, in half the time or less.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setpoint.wire.json_numbers import RANK_LIMIT, Elements, Nested, NotNumbers, Numbers

if TYPE_CHECKING:
    from simdjson import Parser

_PIECE_BYTES = 256 * 1024
"""Read at once: it fits a core's cache, and bounds the parser's memory, which is thirteen times that."""
_SLICE_BYTES = 4 * _PIECE_BYTES
"""About a millisecond's reading, after which others may have their turn."""
_NESTED_LIMIT_BYTES = 16 << 20
"""Nested lists are read in one piece: some 2 ms a MiB, during which nobody else has a turn."""
_KEPT_PARSER_BYTES = 4 << 20
_BEYOND_STRUCTURE = bytes(set(range(256)) - set(b"[],"))


class SimdjsonLists:
    """Reads lists of numbers of one datatype, in pieces."""

    def __init__(self, elements: Elements) -> None:
        """For what ``elements`` says."""
        self._elements = elements
        self._kind = {"f": "d"}.get(elements.read_as.kind, elements.read_as.kind)

    def flat(self, text: bytes, start: int, end: int, elements: int) -> Generator[None, None, Numbers]:
        """As ``json_numbers.Lists.flat``."""
        if text[start : start + 1] != b"[" or text[end - 1 : end] != b"]":
            raise NotNumbers
        # Believe the shape only as far as the text could hold: two bytes a number.
        array = np.empty(elements, self._elements.dtype) if 2 * elements <= end - start else None
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
                self._elements.put(values, array[count : count + values.size])
            count += values.size
            if comma < 0:
                return (self._elements.finished(array) if array is not None and count == elements else None), count
            position = comma + 1
            if position > slice_end:
                slice_end = position + _SLICE_BYTES
                yield

    def nested(self, text: bytes, start: int, end: int, most: int) -> Generator[None, None, Nested]:
        """As ``json_numbers.Lists.nested``; all at once."""
        yield from ()
        piece = memoryview(text)[start:end]
        if len(piece) > _NESTED_LIMIT_BYTES:
            raise NotNumbers
        parser = _small_parser() if len(piece) <= _KEPT_PARSER_BYTES else _new_parser()
        try:
            values, shape = _nested(parser, piece, self._kind)
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise NotNumbers from error
        elements = math.prod(shape)
        if elements != values.size // self._elements.read_as.itemsize or _structure(shape) != _structure_of(piece):
            raise NotNumbers
        if elements > most:
            return None, shape
        array = np.empty(elements, self._elements.dtype)
        self._elements.put(values.view(self._elements.read_as), array)
        return self._elements.finished(array).reshape(shape), shape

    def _read(self, text: bytes, parser: Parser) -> NDArray[Any]:
        try:
            return _flat(parser, text, self._kind).view(self._elements.read_as)
        except (ValueError, TypeError, RuntimeError) as error:
            raise NotNumbers from error


def _flat(parser: Parser, text: bytes, kind: str) -> NDArray[np.uint8]:
    """The parser must be free of what it gave before: all but the numbers dies with this frame."""
    found: Any = parser.parse(text)
    return np.frombuffer(found.as_buffer(of_type=kind), np.uint8) if len(found) else np.empty(0, np.uint8)


def _nested(parser: Parser, text: memoryview, kind: str) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    found: Any = parser.parse(text)
    shape = []
    inside = found
    while hasattr(inside, "as_buffer"):
        shape.append(len(inside))
        inside = inside[0]
    if not 0 < len(shape) <= RANK_LIMIT:
        raise ValueError("not a tensor")
    return np.frombuffer(found.as_buffer(of_type=kind), np.uint8), tuple(shape)


def _structure(shape: tuple[int, ...]) -> bytes:
    """Brackets and commas of a tensor as nested lists."""
    text = b"[%b]" % (b"," * (shape[-1] - 1))
    for length in reversed(shape[:-1]):
        text = b"[%b]" % b",".join([text] * length)
    return text


def _structure_of(text: memoryview) -> bytes:
    """Brackets and commas of a text; in pieces, since one of the text's length would be memory never touched before."""
    starts = range(0, len(text), _PIECE_BYTES)
    return b"".join([bytes(text[start : start + _PIECE_BYTES]).translate(None, _BEYOND_STRUCTURE) for start in starts])


def _new_parser() -> Parser:
    from simdjson import Parser  # 8 ms, for those only who send large JSON

    return Parser()


@lru_cache(maxsize=1)
def _small_parser() -> Parser:
    return _new_parser()
