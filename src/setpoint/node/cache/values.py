"""What is kept of an answer: the outputs as arrays, from which any wire writes what its client asked for; or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from setpoint.wire import BatchOutputs

_TENSORS_BYTES = 280
"""About what a value of tensors takes besides its arrays: itself, its lists, and what counts its growth."""
_ARRAY_BYTES = 180
"""About what an array takes besides its elements."""
_ELEMENT_BYTES = 41
"""What an element of a BYTES array takes besides its text: the object and the pointer to it."""
_KEPT_JSON_ELEMENTS = 4096
"""Up to here the digits of an output are kept once somebody has asked for them."""


class TensorsValue(BatchOutputs):
    """One request's outputs, copied out of the worker's memory; answers are written from it as from a batch.

    Attributes:
        variant: that made them.
        size_bytes: of the arrays, and of the digits of those outputs that JSON clients have asked for.
        on_growth: called when digits were added.
    """

    __slots__ = ("_digits", "on_growth", "size_bytes", "variant")

    def __init__(self, arrays: Sequence[NDArray[Any]], variant: str) -> None:
        """``arrays``: one per output in the signature's order, owned by this value; they become read-only."""
        super().__init__(arrays, together=False)
        for array in arrays:
            array.setflags(write=False)
        self.variant = variant
        self.size_bytes = _TENSORS_BYTES + sum(map(_size_bytes, arrays))
        self.on_growth: Callable[[], None] | None = None
        self._digits: list[tuple[tuple[int, ...], bytes] | None] = [None] * len(arrays)

    @classmethod
    def of_part(cls, outputs: BatchOutputs, start: int, end: int, variant: str) -> TensorsValue:
        """Copy one request's rows out of a batch."""
        return cls([outputs.part(place, start, end).copy() for place in range(len(outputs.arrays))], variant)

    def flat_json(self, position: int, start: int, end: int) -> tuple[tuple[int, ...], bytes]:
        """Shape and elements of one output; digits are made once."""
        digits = self._digits[position]
        if digits is None:
            digits = super().flat_json(position, start, end)
            if self.arrays[position].size <= _KEPT_JSON_ELEMENTS:
                self._digits[position] = digits
                self.size_bytes += len(digits[1])
                if self.on_growth is not None:
                    self.on_growth()
        return digits


class JsonValue:
    """The JSON that an endpoint of a Python class answered with."""

    __slots__ = ("body", "size_bytes", "variant")

    def __init__(self, body: bytes, variant: str) -> None:
        self.body = body
        self.variant = variant
        self.size_bytes = len(body)


Value = TensorsValue | JsonValue


def _size_bytes(array: NDArray[Any]) -> int:
    texts = sum(len(element) + _ELEMENT_BYTES for element in array.ravel().tolist()) if array.dtype.hasobject else 0
    return _ARRAY_BYTES + array.nbytes + texts
