"""The outputs of a batch, cut into each request's part; small rows become JSON once for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from setpoint.wire.json_tensor import encode_flat

_ELEMENTS_PER_ROW = 64
"""Up to here the cost of a request's JSON is the calls and not the digits, and one call for all is cheaper."""


class BatchOutputs:
    """What a model gave for a batch: one array per output, in the signature's order, views of shared memory.

    Attributes:
        arrays: with the rows of all requests along the first axis, where there are several requests.
        single: they hold one row of each of several requests.
        bodies: for each writer that was asked for a usual answer, those of all requests; empty where it makes none.
    """

    __slots__ = ("_row_json", "_together", "arrays", "bodies", "single")

    def __init__(self, arrays: Sequence[NDArray[Any]], *, together: bool, single: bool = False) -> None:
        """Nothing is encoded yet.

        Args:
            arrays: one per output.
            together: they hold the rows of several requests, each array as many.
            single: and each request has one.
        """
        self.arrays = arrays
        self.single = single
        self.bodies: dict[object, Sequence[bytes]] = {}
        self._together = together
        self._row_json: list[list[bytes] | None] | None = None

    def part(self, position: int, start: int, end: int) -> NDArray[Any]:
        """The rows of one request in one output; a lone request has everything, whatever the first axis is."""
        array = self.arrays[position]
        return array[start:end] if self._together else array

    def flat_json(self, position: int, start: int, end: int) -> tuple[tuple[int, ...], bytes]:
        """Shape and elements (a flat JSON list, row-major) of one request in one output."""
        array = self.arrays[position]
        if not self._together:
            return array.shape, encode_flat(array)
        rows = self.row_json()[position]
        if rows is None:
            part = array[start:end]
            return part.shape, encode_flat(part)
        elements = rows[start] if end - start == 1 else b",".join(rows[start:end])
        return (end - start, *array.shape[1:]), b"[%b]" % elements

    def row_json(self) -> list[list[bytes] | None]:
        """For each output, each row's elements without brackets; None where that is not worth it, or not simple."""
        if self._row_json is None:
            self._row_json = [_row_json(output) for output in self.arrays]
        return self._row_json

    def filled(self, template: bytes) -> Sequence[bytes]:
        """The template with each row's elements in place of its ``%b``, one for each output; empty where not simple."""
        rows = self.row_json()
        columns = [column for column in rows if column is not None]
        return list(map(template.__mod__, zip(*columns, strict=True))) if len(columns) == len(rows) else ()


def _row_json(array: NDArray[Any]) -> list[bytes] | None:
    rows = array.shape[0]
    if array.dtype.kind not in "biuf" or array.dtype.itemsize == 2 or not 0 < array.size <= rows * _ELEMENTS_PER_ROW:
        return None
    if array.ndim == 1:
        return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    return orjson.dumps(array.reshape(rows, -1), option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
