"""ModelInfer: messages to arrays, arrays to messages.

Source: open-inference-protocol, ``inference_grpc.md``; Triton's ``grpc_service.proto``. Tensors travel raw, or typed in
``contents`` where a client prefers that; answers are always raw, as Triton's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import DEFAULT_LIMITS, InvalidRequest, Limits, RequestTooLarge, Signature, TensorSpec
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.classification import NO_LABELS, Labels, classify
from setpoint.wire.grpc.envelope import field_head, field_of, raw_fields, split, varint
from setpoint.wire.grpc.messages import parse
from setpoint.wire.infer_request import InferRequest, SignatureReader
from setpoint.wire.json_body import excerpt
from setpoint.wire.raw_tensor import Raw, array_of, bytes_of
from setpoint.wire.shared_memory import NO_SHARED_MEMORY, Extent, SharedMemory, SharedOutput, shared_array
from setpoint.wire.v2_messages import NO_PARAMETERS, RequestParameters

_RAW_INPUT_CONTENTS = 7
_RAW_OUTPUT_CONTENTS = 6
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of ``InferTensorContents`` that holds a datatype. FP16 and BF16 have none: they travel raw only."""
_WIDE = {"INT8": np.int32, "INT16": np.int32, "UINT8": np.uint32, "UINT16": np.uint32}
"""What protobuf sends these as; numpy would wrap a container's numbers into the narrow type without a word."""
FINAL_RESPONSE = {"triton_final_response": True}
"""What the one response of a request on a stream carries: it is also the last, for those who expect several."""
_BYTES_DATATYPE = field_of(2, b"BYTES")
_SHOWN_INPUTS = 20
_NO_ARRAY: NDArray[Any] = np.empty(0)


class InferMessage(msgspec.Struct, frozen=True, gc=False):
    """A ``ModelInferRequest`` whose tensor bytes lie apart.

    Attributes:
        message: all but ``raw_input_contents``.
        raw: those, over the memory of the message as it was received.
    """

    message: Any
    raw: list[memoryview]

    @property
    def model_name(self) -> str:
        """The model that is asked."""
        return str(self.message.model_name)

    @property
    def model_version(self) -> str:
        """Its version or alias; empty for whatever is served."""
        return str(self.message.model_version)

    @property
    def id(self) -> str:
        """To be echoed; empty without."""
        return str(self.message.id)


def read_infer(body: bytes, message_limit_bytes: int) -> InferMessage:
    """Read a ``ModelInferRequest``.

    Args:
        body: as received; it must live as long as what is returned.
        message_limit_bytes: of everything but raw tensors.

    Raises:
        InvalidRequest: it is none.
        RequestTooLarge: more than the limit in typed contents, names and parameters.
    """
    message, raw = split(body, _RAW_INPUT_CONTENTS)
    if len(message) > message_limit_bytes:
        raise RequestTooLarge(
            f"the message has {len(message)} bytes without its raw tensors, more than the limit of "
            f"{message_limit_bytes} (--max-json); send tensors as raw_input_contents"
        )
    return InferMessage(parse("inference.ModelInferRequest", message), raw)


def value_of(parameter: Any) -> Any:
    """A parameter's value, or None where none of its kinds is set."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


class GrpcCodec:
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
        self._labels = labels
        self._reader = SignatureReader(signature, limits)
        self._memory = memory
        self._outputs = signature.outputs
        self._head = field_of(1, model.encode()) + field_of(2, version.encode())
        self._output_names = tuple(field_of(1, spec.name.encode()) for spec in signature.outputs)
        self._output_heads = tuple(
            name + field_of(2, spec.datatype.encode())
            for name, spec in zip(self._output_names, signature.outputs, strict=True)
        )
        self._all_outputs = range(len(signature.outputs))

    def decode(self, infer: InferMessage) -> InferRequest:
        """Turn a message into arrays, most of them over the message's own memory.

        Raises:
            InvalidRequest: a wrong name, datatype, shape or element; the message names it.
            RequestTooLarge: a tensor has more elements than one request may have.
        """
        reader = self._reader
        inputs = infer.message.inputs
        if len(inputs) != len(reader.readers):
            reader.raise_wrong_inputs([tensor.name for tensor in inputs[:_SHOWN_INPUTS]])
        arrays: list[NDArray[Any]] = [_NO_ARRAY] * len(inputs)
        raw_used = 0
        for tensor in inputs:
            position = reader.position.get(tensor.name, -1)
            if position < 0 or arrays[position] is not _NO_ARRAY:
                reader.raise_wrong_inputs([tensor.name for tensor in inputs[:_SHOWN_INPUTS]])
            if tensor.parameters and (extent := _extent(tensor.parameters)) is not None:
                arrays[position] = self._shared_array(position, tensor, extent)
            elif infer.raw:
                raw = infer.raw[raw_used] if raw_used < len(infer.raw) else None
                raw_used += 1
                if raw is not None:
                    arrays[position] = self._array(position, tensor, raw)
            else:
                arrays[position] = self._array(position, tensor, None)
        if infer.raw and len(infer.raw) != raw_used:
            raise InvalidRequest(
                f"raw_input_contents has {len(infer.raw)} tensors, and {raw_used} inputs are not in shared memory: "
                "either each of those is raw or none is"
            )
        message = infer.message
        asked = _asked(message.parameters) if message.parameters else NO_PARAMETERS
        wanted, classes = self._wanted(message.outputs) if message.outputs else (None, ())
        shared = tuple([self._shared_output(output.parameters) for output in message.outputs])
        return reader.request(
            arrays,
            infer.id,
            wanted,
            classes=classes,
            timeout_ns=asked.timeout * 1000,
            priority=asked.priority,
            shared=shared if any(shared) else (),
        )

    def _checked(self, position: int, tensor: Any) -> tuple[TensorSpec, tuple[int, ...], int]:
        """Judge datatype and shape; returns what is declared, the shape, and the number of elements."""
        spec = self._reader.signature.inputs[position]
        shape = tuple(tensor.shape)
        return spec, shape, self._reader.check_input(position, tensor.datatype, shape)

    def _shared_array(self, position: int, tensor: Any, extent: Extent) -> NDArray[Any]:
        spec, shape, elements = self._checked(position, tensor)
        if tensor.HasField("contents"):
            raise InvalidRequest(f"input {spec.name!r} is given twice: in contents and in shared memory")
        return shared_array(self._memory, spec, extent, shape, elements)

    def _shared_output(self, parameters: Mapping[str, Any]) -> SharedOutput | None:
        extent = _extent(parameters) if parameters else None
        return None if extent is None else SharedOutput(extent, self._memory.place(extent))

    def _array(self, position: int, tensor: Any, raw: memoryview | None) -> NDArray[Any]:
        spec, shape, elements = self._checked(position, tensor)
        if raw is None:
            return self._typed(position, tensor.contents, shape, elements)
        if tensor.HasField("contents"):
            raise InvalidRequest(f"input {spec.name!r} is given twice: in contents and in raw_input_contents")
        return array_of(spec, raw, shape, elements)

    def _typed(self, position: int, contents: Any, shape: tuple[int, ...], elements: int) -> NDArray[Any]:
        spec = self._reader.signature.inputs[position]
        field = _CONTENTS.get(spec.datatype)
        if field is None:
            raise InvalidRequest(f"{spec.datatype} has no typed form; send input {spec.name!r} in raw_input_contents")
        values = getattr(contents, field)
        if len(values) != elements:
            raise InvalidRequest(
                f"input {spec.name!r} of shape {list(shape)} needs {elements} elements, contents.{field} has "
                f"{len(values)}"
            )
        if spec.datatype == "BYTES":
            texts = np.empty(elements, object)
            texts[:] = values
            return texts.reshape(shape)
        wide = np.array(values, _WIDE.get(spec.datatype, spec.type.dtype))
        array = wide.astype(spec.type.dtype, copy=False)
        if array is not wide and not np.array_equal(array, wide):
            raise InvalidRequest(
                f"input {spec.name!r} is {spec.datatype}, its contents have a number beyond that range"
            )
        return array.reshape(shape)

    def _wanted(self, outputs: Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions of the outputs asked for, and the number of classes wanted of each; empty where of none."""
        positions = self._reader.wanted([output.name for output in outputs])
        classes: list[int] = []
        for position, output in zip(positions, outputs, strict=True):
            wanted = _whole_number(output.parameters, "classification") if output.parameters else 0
            if wanted < 0 or (wanted and self._outputs[position].datatype == "BYTES"):
                raise InvalidRequest(
                    f"output {output.name!r} is {self._outputs[position].datatype}: cannot give {wanted} classes"
                )
            classes.append(wanted)
        return positions, tuple(classes) if any(classes) else ()

    def encode(
        self,
        request: InferRequest,
        outputs: BatchOutputs,
        start: int,
        end: int,
        parameters: Mapping[str, bool] | None = None,
    ) -> list[Raw]:
        """Write a ``ModelInferResponse`` for rows ``start`` to ``end`` of a batch.

        Returns:
            pieces to be joined; some lie over the memory of ``outputs`` and are valid as long as that is.
        """
        head = [self._head]
        if request.id:
            head.append(field_of(3, request.id.encode()))
        for name, value in (parameters or {}).items():
            head.append(_entry(4, name, value))
        values: list[Raw] = []
        for index, position in enumerate(self._all_outputs if request.wanted is None else request.wanted):
            array = outputs.part(position, start, end)
            output = self._output_heads[position]
            if request.classes and request.classes[index]:
                labels = self._labels.get(self._outputs[position].name, ())
                batched = self._reader.signature.batched
                array = classify(array, request.classes[index], batched=batched, labels=labels)
                output = self._output_names[position] + _BYTES_DATATYPE
            output += _shape_field(array.shape)
            if request.shared and (shared := request.shared[index]) is not None:
                output += b"".join(_entry(4, *pair) for pair in shared.put(array).parameters.items())
                values.append(b"")  # raw_output_contents is read by the output's place
            else:
                values.append(bytes_of(array))
            head.append(field_of(5, output))
        return [b"".join(head), *raw_fields(_RAW_OUTPUT_CONTENTS, values)]


def _entry(number: int, name: str, value: str | int) -> bytes:
    """An entry of a map of ``InferParameter``: bool_param is its field 1, int64_param 2, string_param 3."""
    if isinstance(value, str):
        parameter = field_of(3, value.encode())
    else:
        parameter = bytes((0x08 if isinstance(value, bool) else 0x10,)) + varint(value)
    return field_of(number, field_of(1, name.encode()) + field_of(2, parameter))


def _extent(parameters: Mapping[str, Any]) -> Extent | None:
    if "shared_memory_region" not in parameters:
        return None
    region = value_of(parameters["shared_memory_region"])
    if not isinstance(region, str):
        raise InvalidRequest("parameter 'shared_memory_region': expected a region's name")
    return Extent(
        region,
        _whole_number(parameters, "shared_memory_offset"),
        _whole_number(parameters, "shared_memory_byte_size"),
    )


def _asked(parameters: Mapping[str, Any]) -> RequestParameters:
    asked = RequestParameters(
        timeout=_whole_number(parameters, "timeout"), priority=_whole_number(parameters, "priority")
    )
    asked.check()
    return asked


def _whole_number(parameters: Mapping[str, Any], name: str) -> int:
    if name not in parameters:
        return 0
    value = value_of(parameters[name])
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"parameter {name!r}: expected a whole number, got {excerpt(repr(value))}")
    return value


@lru_cache(maxsize=4096)
def _shape_field(shape: tuple[int, ...]) -> bytes:
    return field_of(3, b"".join(map(varint, shape)))


def stream_response(response: list[Raw]) -> bytes:
    """A ``ModelStreamInferResponse`` with that response in it."""
    return b"".join([field_head(2, sum(map(len, response))), *response])


def stream_error(message: str, model: str, request_id: str) -> bytes:
    """A ``ModelStreamInferResponse`` that says why there is no answer to a request, and to which one."""
    empty = field_of(1, model.encode()) + field_of(3, request_id.encode())
    return field_of(1, message.encode()) + field_of(2, empty)
