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
    """The form that came last, for a model with one input of numbers."""

    __slots__ = ("_after", "_allowed", "_around_bytes", "_before", "_reader", "_said", "_shape")

    def __init__(self, reader: TensorReader) -> None:
        """Know none; ``reader`` is the input's."""
        self._reader = reader
        self._allowed = _MISSES_ALLOWED
        self._before = self._after = b""
        self._around_bytes = _LONGEST_BYTES
        self._shape: tuple[int, ...] = ()
        self._said = InferRequest([], 0, ())

    def read(self, body: bytes) -> InferRequest | None:
        """What a body says; None where it has another form, or must be read in full to say what is wrong with it."""
        around_bytes = self._around_bytes - len(body)
        if around_bytes >= 0 or not (body.startswith(self._before) and body.endswith(self._after)):
            return None
        before_bytes = len(self._before)
        array = self._reader.plain(body[before_bytes : before_bytes - around_bytes], self._shape)
        if array is None:
            return None
        self._allowed = _MISSES_ALLOWED
        return InferRequest([array], self._said.rows, self._said.inner_shapes)

    def learn(self, body: bytes, data: bytes, shape: list[int], said: InferRequest) -> None:
        """Remember the form of a body.

        Args:
            body: which says nothing but one input of few numbers, and perhaps an id.
            data: the input's list as it stands in the body.
            shape: of that input, as the body says it.
            said: what was read from it.
        """
        self._allowed -= 1
        if self._allowed <= 0 and self._allowed % _LOOK_AGAIN:
            return
        if said.id or len(body) > _LONGEST_BYTES or body.count(data) != 1:
            return  # elsewhere the same text may be a shape, or in a name
        self._before, _, self._after = body.partition(data)
        self._around_bytes = len(self._before) + len(self._after)
        self._shape = tuple(shape)
        self._said = InferRequest([], said.rows, said.inner_shapes)
