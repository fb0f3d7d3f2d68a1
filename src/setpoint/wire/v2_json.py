"""Open Inference Protocol V2, inference over JSON: requests to arrays, arrays to responses.

Source: open-inference-protocol, ``inference_rest.md``. ``data`` may be flat or nested, row-major. FP16 and BF16 have
no JSON form there. Beyond the specification: ``null`` in a floating tensor is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import FREE, InvalidRequest, Signature
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.json_body import decoding, excerpt
from setpoint.wire.json_tensor import TensorReader

_Unread = dict[str, msgspec.Raw]
"""Parameters that nothing here implements: judged as JSON, but no objects are made of them."""


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: _Unread | None = None


class _RequestedOutput(msgspec.Struct, gc=False):
    name: str
    parameters: _Unread | None = None


class _Body(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str = ""
    parameters: _Unread | None = None
    outputs: list[_RequestedOutput] | None = None


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    Attributes:
        arrays: one per input, in the signature's order, of its dtype.
        rows: length of the batch axis; 1 where the signature is not batched.
        inner_shapes: each input's axis lengths behind the batch axis, where they may differ from request to request;
            empty where they cannot. Only requests of equal inner shapes can share a batch.
        id: to be echoed; empty without.
        wanted: positions of the wanted outputs in the signature, or None for all.
    """

    arrays: list[NDArray[Any]]
    rows: int
    inner_shapes: tuple[tuple[int, ...], ...]
    id: str = ""
    wanted: tuple[int, ...] | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_NO_ARRAY: NDArray[Any] = np.empty(0)


class SignatureReader:
    """What both JSON forms do once the arrays are read; built once for a model."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.readers = tuple(TensorReader(spec) for spec in signature.inputs)
        self.position = {spec.name: position for position, spec in enumerate(signature.inputs)}
        self._free_inside = any(FREE in spec.shape[1:] for spec in signature.inputs)

    def request(
        self, arrays: list[NDArray[Any]], request_id: str = "", wanted: tuple[int, ...] | None = None
    ) -> InferRequest:
        """Put arrays (in the signature's order, each of its declared shape) into a request.

        Raises:
            InvalidRequest: the batch axes differ, or are 0.
        """
        rows = 1
        if self.signature.batched:
            rows = arrays[0].shape[0]
            for position, array in enumerate(arrays):
                if array.shape[0] != rows:
                    name, first = self.signature.inputs[position].name, self.signature.inputs[0].name
                    raise InvalidRequest(
                        f"inputs have different batch sizes: {first!r} has {rows} rows, {name!r} has {array.shape[0]}"
                    )
            if rows == 0:
                raise InvalidRequest("the request has no rows: the first axis of its inputs is 0")
        inner_shapes = tuple([array.shape[1:] for array in arrays]) if self._free_inside else ()
        return InferRequest(arrays, rows, inner_shapes, request_id, wanted)

    def raise_wrong_inputs(self, got: Sequence[str]) -> NoReturn:
        """Say what inputs the model takes."""
        expected = ", ".join(map(str, self.signature.inputs))
        names = excerpt(", ".join(map(repr, got))) or "none"
        raise InvalidRequest(f"the model takes each of these inputs once: {expected}; got {names}")


@lru_cache(maxsize=4096)
def _shape_key(shape: tuple[int, ...]) -> bytes:
    return b'%b,"data":' % msgspec.json.encode(shape)


class V2Codec:
    """Reads requests for one model and writes its responses; built once, so that each request is cheap."""

    def __init__(self, signature: Signature, model: str, version: str) -> None:
        self._reader = SignatureReader(signature)
        self._output_position = {spec.name: position for position, spec in enumerate(signature.outputs)}
        self._prefix = b'{"model_name":%b,"model_version":%b,' % (
            msgspec.json.encode(model),
            msgspec.json.encode(version),
        )
        self._output_prefix = tuple(
            b'{"name":%b,"datatype":"%b","shape":' % (msgspec.json.encode(spec.name), spec.datatype.encode())
            for spec in signature.outputs
        )
        self._all_outputs = range(len(signature.outputs))
        self._no_json = next((spec for spec in signature.outputs if not spec.type.json_number), None)

    def decode(self, body: bytes) -> InferRequest:
        """Read a request body.

        Raises:
            InvalidRequest: malformed JSON, a wrong name, datatype, shape or element; the message names it.
        """
        with decoding("a V2 inference request"):
            request = _decode_body(body)
        reader = self._reader
        inputs = request.inputs
        if len(inputs) != len(reader.readers):
            reader.raise_wrong_inputs([tensor.name for tensor in inputs])
        arrays: list[NDArray[Any]] = [_NO_ARRAY] * len(inputs)
        for tensor in inputs:
            position = reader.position.get(tensor.name, -1)
            if position < 0 or arrays[position] is not _NO_ARRAY:
                reader.raise_wrong_inputs([tensor.name for tensor in inputs])
            arrays[position] = self._array(position, tensor)
        wanted = self._wanted(request.outputs) if request.outputs else None
        if self._no_json is not None:
            raise InvalidRequest(
                f"output {self._no_json.name!r} is {self._no_json.datatype}, which has no V2 JSON form; "
                "use the native route POST /models/NAME/ENDPOINT"
            )
        return reader.request(arrays, request.id, wanted)

    def _array(self, position: int, tensor: _Input) -> NDArray[Any]:
        spec = self._reader.signature.inputs[position]
        reader = self._reader.readers[position]
        if tensor.datatype != spec.datatype:
            raise InvalidRequest(
                f"input {spec.name!r} has datatype {excerpt(tensor.datatype)!r}, the model takes {spec.datatype}"
            )
        elements = reader.check_shape(tensor.shape)
        if isinstance(tensor.data, msgspec.UnsetType):
            raise InvalidRequest(f"input {spec.name!r} has no data")
        if not spec.type.json_number:
            raise InvalidRequest(
                f"{spec.datatype} has no V2 JSON form; send input {spec.name!r} through POST /models/NAME/ENDPOINT"
            )
        return reader.flat_or_nested(tensor.data, tensor.shape, elements)

    def _wanted(self, outputs: list[_RequestedOutput]) -> tuple[int, ...]:
        positions: list[int] = []
        for output in outputs:
            position = self._output_position.get(output.name)
            if position is None:
                known = ", ".join(repr(spec.name) for spec in self._reader.signature.outputs)
                raise InvalidRequest(f"the model has no output {excerpt(output.name)!r}; it has {known}")
            if position in positions:
                raise InvalidRequest(f"output {output.name!r} is asked for twice")
            positions.append(position)
        return tuple(positions)

    def encode(self, request: InferRequest, outputs: BatchOutputs, start: int, end: int) -> bytes:
        """Write a response body for rows ``start`` to ``end`` of a batch."""
        parts = [self._prefix]
        if request.id:
            parts.append(b'"id":%b,' % msgspec.json.encode(request.id))
        parts.append(b'"outputs":[')
        separator = b""
        for position in self._all_outputs if request.wanted is None else request.wanted:
            shape, data = outputs.flat_json(position, start, end)
            parts += (separator, self._output_prefix[position], _shape_key(shape), data)
            separator = b"},"
        parts.append(b"}]}" if separator else b"]}")
        return b"".join(parts)
