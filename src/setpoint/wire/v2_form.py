"""Bodies that differ in their numbers only: what such a client's last body said is not read again.

A small V2 request is nearly all form: names, a shape, a datatype, the same each time. If a body begins and ends as one
did that was read before, and what stands between is by itself a whole JSON list of the right numbers, then it says what
the other one said, with these numbers: in JSON one value may stand for another. Everything else is read in full.
"""

from __future__ import annotations

from setpoint.wire.infer_request import InferRequest
from setpoint.wire.json_tensor import TensorReader

_LONGEST_BYTES = 4096
_MISSES_ALLOWED = 8
"""Bodies in a row of other forms; behind them only one in 64 is remembered, since remembering costs a microsecond."""
_LOOK_AGAIN = 64


class Form:
    """The form of a body with one input of few numbers, and what it says."""

    __slots__ = ("_after", "_around_bytes", "_before", "_elements", "_inner_shapes", "_reader", "_rows", "_shape")

    def __init__(self, before: bytes, after: bytes, reader: TensorReader, shape: list[int], said: InferRequest) -> None:
        self._before = before
        self._after = after
        self._around_bytes = len(before) + len(after)
        self._reader = reader
        self._shape = tuple(shape)
        self._elements = said.arrays[0].size
        self._rows = said.rows
        self._inner_shapes = said.inner_shapes

    def read(self, body: bytes) -> InferRequest | None:
        """What a body says; None where it has another form, or must be read in full to say what is wrong with it."""
        if not (body.startswith(self._before) and body.endswith(self._after) and len(body) > self._around_bytes):
            return None
        data = body[len(self._before) : len(body) - len(self._after)]
        array = self._reader.plain(data, self._shape, self._elements)
        return None if array is None else InferRequest([array], self._rows, self._inner_shapes)


class Forms:
    """The form that came last, for one model."""

    __slots__ = ("_allowed", "_form")

    def __init__(self) -> None:
        self._form: Form | None = None
        self._allowed = _MISSES_ALLOWED

    def read(self, body: bytes) -> InferRequest | None:
        """What a body of the known form says."""
        if self._form is None:
            return None
        said = self._form.read(body)
        if said is not None:
            self._allowed = _MISSES_ALLOWED
        return said

    def learn(self, body: bytes, data: bytes, reader: TensorReader, shape: list[int], said: InferRequest) -> None:
        """Remember the form of a body.

        Args:
            body: which says nothing but one input of few numbers, and perhaps an id.
            data: the input's list as it stands in the body.
            reader: of that input.
            shape: of that input, as the body says it.
            said: what was read from it.
        """
        self._allowed -= 1
        if self._allowed <= 0 and self._allowed % _LOOK_AGAIN:
            return
        if said.id or len(body) > _LONGEST_BYTES or body.count(data) != 1:
            return  # elsewhere the same text may be a shape, or in a name
        before, _, after = body.partition(data)
        self._form = Form(before, after, reader, shape, said)
