"""The native JSON route: ``POST /models/NAME/ENDPOINT`` with one JSON object, its keys the endpoint's arguments."""

from __future__ import annotations

from typing import Any

import msgspec
from numpy.typing import NDArray

from setpoint.core import DEFAULT_LIMITS, Endpoint, InvalidRequest, Limits, Signature
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.infer_request import InferRequest, SignatureReader
from setpoint.wire.json_body import decoding
from setpoint.wire.json_tensor import encode_nested

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class NativeTensorCodec:
    """The native form of a model of tensors: ``{"INPUT": nested lists, …}`` → ``{"OUTPUT": nested lists, …}``."""

    def __init__(self, signature: Signature, limits: Limits = DEFAULT_LIMITS) -> None:
        self._reader = SignatureReader(signature, limits)
        self._output_keys = tuple(msgspec.json.encode(spec.name) for spec in signature.outputs)

    def decode(self, body: bytes) -> InferRequest:
        """Read a request body.

        Raises:
            InvalidRequest: malformed JSON, a wrong name, shape or element; the message names it.
        """
        with decoding("a JSON object of inputs"):
            values = _decode_object(body)
        reader = self._reader
        if values.keys() != reader.position.keys():
            reader.raise_wrong_inputs(list(values))
        arrays: list[NDArray[Any]] = []
        for name, tensor in zip(reader.position, reader.readers, strict=True):
            array = tensor.nested(values[name])
            tensor.check_shape(array.shape)
            arrays.append(array)
        return reader.request(arrays)

    def encode(self, request: InferRequest, outputs: BatchOutputs, start: int, end: int) -> bytes:
        """Write a response body for rows ``start`` to ``end`` of a batch."""
        if outputs.single:  # the answers of a whole batch are written in one go
            bodies = outputs.bodies.get(self)
            if bodies is None:
                bodies = outputs.bodies[self] = outputs.filled(self._template(outputs)) if self._flat(outputs) else ()
            if bodies:
                return bodies[start]
        return b"{%b}" % b",".join(
            [
                b"%b:%b" % (key, encode_nested(outputs.part(position, start, end)))
                for position, key in enumerate(self._output_keys)
            ]
        )

    def _flat(self, outputs: BatchOutputs) -> bool:
        """Whether a row's elements nest as they stand."""
        return all(array.ndim <= 2 for array in outputs.arrays)

    def _template(self, outputs: BatchOutputs) -> bytes:
        """A response of one row, ``%b`` where the elements go."""
        texts = [
            key.replace(b"%", b"%%") + (b":[%b]" if array.ndim == 1 else b":[[%b]]")
            for key, array in zip(self._output_keys, outputs.arrays, strict=True)
        ]
        return b"{%b}" % b",".join(texts)


def count_rows(endpoint: Endpoint, body: bytes) -> int:
    """Rows of a JSON body for a batched endpoint of a Python class: the length of its lists.

    Empty lists are no error: the answer is an empty list too, and counts as one row of work.

    The worker judges the body by the class's types. Here only what the queue must know is read: that it is a JSON
    object, and how much work it is.

    Raises:
        InvalidRequest: not a JSON object, or lists of different lengths.
    """
    with decoding("a JSON object of arguments"):
        values = _decode_object(body or b"{}")
        rows = 0
        first = ""
        for parameter in endpoint.parameters:
            value = values.get(parameter.name)
            if value is None or bytes(memoryview(value)[:1]) != b"[":
                continue  # missing, or not a list: the worker says so, with the type it expected
            length = len(_decode_list(value))
            if first and length != rows:
                raise InvalidRequest(
                    f"arguments have different numbers of rows: {first!r} has {rows}, {parameter.name!r} has {length}"
                )
            rows, first = length, parameter.name
    return max(1, rows)


def check_object(body: bytes) -> None:
    """Refuse what is not a JSON object before it takes a place in a queue.

    Raises:
        InvalidRequest: malformed, or not an object.
    """
    with decoding("a JSON object of arguments"):
        _decode_object(body or b"{}")
