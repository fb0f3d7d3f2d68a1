"""Open Inference Protocol V2, inference over REST: requests to arrays, arrays to responses.

Sources: open-inference-protocol, ``inference_rest.md``; Triton's binary tensor data extension, by which some or all
tensors stand behind the JSON. ``data`` in the JSON may be flat or nested, row-major. FP16 and BF16 have no JSON form.
Beyond the specification: ``null`` in a floating tensor is NaN.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import DEFAULT_LIMITS, FREE, InvalidRequest, Limits, RequestTooLarge, Signature
from setpoint.wire.classification import NO_LABELS, Labels
from setpoint.wire.infer_request import InferRequest, SignatureReader
from setpoint.wire.json_body import decoding, excerpt
from setpoint.wire.json_cut import Cut, cut
from setpoint.wire.json_depth import check_depth
from setpoint.wire.json_numbers import WORTHWHILE_ELEMENTS, NotNumbers
from setpoint.wire.raw_tensor import array_of
from setpoint.wire.shared_memory import NO_SHARED_MEMORY, Extent, SharedMemory, SharedOutput, shared_array
from setpoint.wire.v2_answers import AnswerWriter
from setpoint.wire.v2_form import Form
from setpoint.wire.v2_messages import (
    ABSENT,
    NO_OUTPUT_PARAMETERS,
    NO_PARAMETERS,
    Body,
    Input,
    RequestedOutput,
    RequestParameters,
    decode_body,
)

_NO_TAIL = memoryview(b"")
_NO_ARRAY: NDArray[Any] = np.empty(0)


class V2Codec(AnswerWriter):
    """Reads requests for one model and writes its responses; built once, so that each request is cheap."""

    def __init__(
        self,
        signature: Signature,
        model: str,
        version: str,
        memory: SharedMemory = NO_SHARED_MEMORY,
        labels: Labels = NO_LABELS,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(signature, model, version, labels)
        self._reader = SignatureReader(signature, limits)
        self._limits = limits
        self._memory = memory
        self._all_binary = (True,) * len(signature.outputs)
        self._all_have_json = all(spec.type.json_number for spec in signature.outputs)
        readers = self._reader.readers
        forms_pay = self._all_have_json and len(readers) == 1 and readers[0].takes_plain_numbers
        self._form = Form(readers[0]) if forms_pay else None

    def decode(self, body: bytes, json_bytes: int | None = None) -> InferRequest:
        """Read a request body.

        Args:
            body: JSON, and behind it the tensors that are binary.
            json_bytes: length of the JSON; None where all of the body is JSON, 0 where all of it is one tensor.

        Raises:
            InvalidRequest: malformed JSON, a wrong name, datatype, shape or element; the message names it.
            RequestTooLarge: deeper, or with more tensors, axes or elements, than a request may be.
        """
        if json_bytes is None:
            form = self._form
            if form is not None:
                said = form.read(body)
                if said is not None:
                    return said
            check_depth(body, self._limits.json_depth_limit)
            with decoding("a V2 inference request"):
                request = decode_body(body)
            said = self._request(request, _NO_TAIL, None)
            if form is not None:
                _learn(form, body, request, said)
            return said
        if json_bytes == 0:
            return self._raw_request(body)
        head = memoryview(body)[:json_bytes]
        check_depth(head, self._limits.json_depth_limit)
        with decoding("a V2 inference request"):
            request = decode_body(head)
        return self._request(request, memoryview(body)[json_bytes:], None)

    def read(self, body: bytes, json_bytes: int | None) -> Generator[None, None, InferRequest]:
        """As ``decode``, a slice at a time, large lists of numbers straight into arrays.

        Args:
            body: JSON, and behind it the tensors that are binary.
            json_bytes: as for ``decode``.

        Raises:
            InvalidRequest: as ``decode``.
            RequestTooLarge: as ``decode``; or more JSON besides those lists, which is read at once, than there may be.
        """
        json_limit_bytes = self._limits.json_limit_bytes
        if json_bytes == 0:
            return self._raw_request(body)
        text = body if json_bytes is None else body[:json_bytes]
        shortened = cut(text)
        if shortened.spans and len(shortened.rest) <= json_limit_bytes:
            tail = _NO_TAIL if json_bytes is None else memoryview(body)[json_bytes:]
            try:
                check_depth(shortened.rest, self._limits.json_depth_limit)
                with decoding("a V2 inference request"):
                    request = decode_body(shortened.rest)
                read = yield from self._large(request, text, shortened)
                return self._request(request, tail, read)
            except NotNumbers:
                pass
            except InvalidRequest:
                if len(text) > json_limit_bytes:
                    raise  # else it is said again below, with the places where the client has them
        if len(text) > json_limit_bytes:
            raise RequestTooLarge(
                f"the request has {len(text)} bytes of JSON, more than the limit of {json_limit_bytes} (--max-json) "
                "for anything but flat lists of numbers; send tensors as binary data, or fewer rows a request"
            )
        return self.decode(body, json_bytes)

    def _large(self, request: Body, text: bytes, shortened: Cut) -> Generator[None, None, dict[str, NDArray[Any]]]:
        """Read what was cut out: input → array."""
        arrays: dict[str, NDArray[Any]] = {}
        for tensor in request.inputs:
            number = shortened.span_of(tensor.data)
            if number >= 0:
                position = self._reader.position.get(tensor.name, -1)
                if position < 0 or tensor.name in arrays:
                    raise NotNumbers
                elements = self._reader.check_input(position, tensor.datatype, tensor.shape)
                if not self._reader.signature.inputs[position].type.json_number:
                    raise NotNumbers
                start, end = shortened.spans[number]
                reader = self._reader.readers[position]
                arrays[tensor.name] = yield from reader.large(text, start, end, tensor.shape, elements)
        if len(arrays) != len(shortened.spans):
            raise NotNumbers  # some list is not what it looked like: nobody has judged it
        return arrays

    def _request(self, request: Body, tail: memoryview, read: Mapping[str, NDArray[Any]] | None) -> InferRequest:
        reader = self._reader
        inputs = request.inputs
        if len(inputs) != len(reader.readers):
            reader.raise_wrong_inputs([tensor.name for tensor in inputs])
        arrays: list[NDArray[Any]] = [_NO_ARRAY] * len(inputs)
        start = 0
        for tensor in inputs:
            position = reader.position.get(tensor.name, -1)
            if position < 0 or arrays[position] is not _NO_ARRAY:
                reader.raise_wrong_inputs([tensor.name for tensor in inputs])
            parameters = tensor.parameters
            size_bytes = ABSENT if parameters is None else parameters.binary_data_size
            if parameters is not None and (extent := parameters.extent) is not None:
                arrays[position] = self._shared_array(position, tensor, extent)
            elif size_bytes != ABSENT:
                arrays[position] = self._binary_array(position, tensor, tail, start, size_bytes)
                start += size_bytes
            elif read is not None and tensor.name in read:
                arrays[position] = read[tensor.name]
            else:
                arrays[position] = self._array(position, tensor)
        if start != len(tail):
            raise InvalidRequest(
                f"behind the JSON stand {len(tail)} bytes, the inputs' binary_data_size are {start} together"
            )
        if request.parameters is None and not request.outputs and self._all_have_json:
            return reader.request(arrays, request.id)
        return self._with_choices(arrays, request.id, request.parameters or NO_PARAMETERS, request.outputs or [])

    def _raw_request(self, body: bytes) -> InferRequest:
        """The body is the only input, one row of it; all outputs come back binary."""
        specs = self._reader.signature.inputs
        if len(specs) != 1:
            raise InvalidRequest(f"a body that is one raw tensor fits models of one input; this one has {len(specs)}")
        (spec,) = specs
        batched = self._reader.signature.batched
        shape = [1 if axis == 0 and batched else length for axis, length in enumerate(spec.shape)]
        if shape.count(FREE) > 1:
            raise InvalidRequest(f"a raw tensor leaves one axis open at most; the model takes {spec}; send its shape")
        if not spec.type.itemsize_bytes:
            shape = [1 if length == FREE else length for length in shape]
            if self._reader.readers[0].check_shape(shape) != 1:
                raise InvalidRequest(f"a raw tensor of BYTES is one element; the model takes {spec}; send its shape")
            text = np.empty(1, object)
            text[0] = bytes(body)
            return self._reader.request([text.reshape(shape)], binary=self._all_binary)
        if FREE in shape:
            known_bytes = spec.type.itemsize_bytes
            for length in shape:
                known_bytes *= 1 if length == FREE else length
            shape[shape.index(FREE)] = len(body) // known_bytes if known_bytes else 0
        elements = self._reader.readers[0].check_shape(shape)
        array = array_of(spec, memoryview(body), tuple(shape), elements)
        return self._reader.request([array], binary=self._all_binary)

    def _array(self, position: int, tensor: Input) -> NDArray[Any]:
        elements = self._reader.check_input(position, tensor.datatype, tensor.shape)
        spec = self._reader.signature.inputs[position]
        if isinstance(tensor.data, msgspec.UnsetType):
            raise InvalidRequest(f"input {spec.name!r} has no data")
        if not spec.type.json_number:
            raise InvalidRequest(
                f"{spec.datatype} has no V2 JSON form; send input {spec.name!r} as binary data, "
                "or through POST /models/NAME/ENDPOINT"
            )
        return self._reader.readers[position].flat_or_nested(tensor.data, tensor.shape, elements)

    def _binary_array(
        self, position: int, tensor: Input, tail: memoryview, start: int, size_bytes: int
    ) -> NDArray[Any]:
        elements = self._reader.check_input(position, tensor.datatype, tensor.shape)
        spec = self._reader.signature.inputs[position]
        if not isinstance(tensor.data, msgspec.UnsetType):
            raise InvalidRequest(f"input {spec.name!r} is given twice: in data and behind the JSON")
        if not 0 <= size_bytes <= len(tail) - start:
            raise InvalidRequest(
                f"input {spec.name!r} has binary_data_size {excerpt(str(size_bytes))}, and behind the JSON "
                f"{len(tail) - start} bytes are left; header Inference-Header-Content-Length says where the JSON ends"
            )
        return array_of(spec, tail[start : start + size_bytes], tuple(tensor.shape), elements)

    def _shared_array(self, position: int, tensor: Input, extent: Extent) -> NDArray[Any]:
        elements = self._reader.check_input(position, tensor.datatype, tensor.shape)
        spec = self._reader.signature.inputs[position]
        if not isinstance(tensor.data, msgspec.UnsetType):
            raise InvalidRequest(f"input {spec.name!r} is given twice: in data and in shared memory")
        return shared_array(self._memory, spec, extent, tuple(tensor.shape), elements)

    def _with_choices(
        self, arrays: list[NDArray[Any]], request_id: str, asked: RequestParameters, outputs: list[RequestedOutput]
    ) -> InferRequest:
        asked.check()
        wanted = self._reader.wanted([output.name for output in outputs]) if outputs else None
        binary: tuple[bool, ...] = ()
        classes: tuple[int, ...] = ()
        shared: tuple[SharedOutput | None, ...] = ()
        if outputs:
            parameters = [output.parameters or NO_OUTPUT_PARAMETERS for output in outputs]
            binary = tuple([asked.binary_data_output if p.binary_data is None else p.binary_data for p in parameters])
            classes = tuple([p.classification for p in parameters])
            shared = tuple([self._shared_output(p.extent) for p in parameters])
        elif asked.binary_data_output:
            binary = self._all_binary
        if not any(shared):
            shared = ()
        self._check_outputs(wanted or self._all_outputs, binary, classes, shared)
        return self._reader.request(
            arrays,
            request_id,
            wanted,
            binary=binary if any(binary) else (),
            classes=classes if any(classes) else (),
            timeout_ns=asked.timeout * 1000,
            priority=asked.priority,
            shared=shared,
        )

    def _shared_output(self, extent: Extent | None) -> SharedOutput | None:
        return None if extent is None else SharedOutput(extent, self._memory.place(extent))

    def _check_outputs(
        self,
        positions: Sequence[int],
        binary: Sequence[bool],
        classes: Sequence[int],
        shared: Sequence[SharedOutput | None],
    ) -> None:
        for index, position in enumerate(positions):
            spec = self._outputs[position]
            if classes and classes[index]:
                if classes[index] < 0 or spec.datatype == "BYTES":
                    raise InvalidRequest(
                        f"output {spec.name!r} is {spec.datatype}: cannot give {classes[index]} classes"
                    )
            elif not spec.type.json_number and not (binary and binary[index]) and not (shared and shared[index]):
                raise InvalidRequest(
                    f"output {spec.name!r} is {spec.datatype}, which has no V2 JSON form; ask for it with "
                    "binary_data, or use the native route POST /models/NAME/ENDPOINT"
                )


def _learn(form: Form, body: bytes, request: Body, said: InferRequest) -> None:
    """Remember the form of a body that says only what is in its one input."""
    tensor = request.inputs[0]
    if (
        request.parameters is None
        and not request.outputs
        and tensor.parameters is None
        and isinstance(tensor.data, msgspec.Raw)
        and said.arrays[0].size <= WORTHWHILE_ELEMENTS
    ):
        form.learn(body, bytes(tensor.data), tensor.shape, said)
