"""ModelInfer as bytes: what is written is read back, strangers' bytes are refused, and raw tensors are not copied."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import models, same

from setpoint.core import (
    DATATYPES,
    DEFAULT_LIMITS,
    FREE,
    InvalidRequest,
    RequestError,
    RequestTooLarge,
    Signature,
    TensorSpec,
)
from setpoint.wire import BatchOutputs, InferRequest
from setpoint.wire.grpc import (
    FINAL_RESPONSE,
    GrpcCodec,
    message_class,
    read_infer,
    stream_error,
    stream_response,
)
from setpoint.wire.raw_tensor import array_of, bytes_of

ALL = list(DATATYPES)
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
IRIS = Signature((TensorSpec("X", "FP32", (FREE, 4)),), (TensorSpec("y", "FP32", (FREE, 3)),), True)
CODEC = GrpcCodec(IRIS, "iris", "3")
LIMIT = 1 << 20


def request_message(**fields: Any) -> Any:
    return message_class("inference.ModelInferRequest")(model_name="iris", **fields)


def described(signature: Signature, arrays: list[NDArray[Any]], order: list[int]) -> Any:
    message = request_message(id="7")
    for position in order:
        spec, array = signature.inputs[position], arrays[position]
        message.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
    return message


def decoded(message: Any, codec: GrpcCodec = CODEC) -> InferRequest:
    return codec.decode(read_infer(message.SerializeToString(), LIMIT))


def iris(rows: int = 1) -> Any:
    message = request_message()
    message.inputs.add(name="X", datatype="FP32", shape=(rows, 4))
    message.raw_input_contents.append(np.zeros((rows, 4), np.float32).tobytes())
    return message


def refusal(message: Any, codec: GrpcCodec = CODEC) -> str:
    with pytest.raises(InvalidRequest) as refused:
        decoded(message, codec)
    return refused.value.message


@given(models(ALL), st.data())
def test_raw_tensors_are_read_as_they_were(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, arrays = model
    order = data.draw(st.permutations(range(len(arrays))))
    message = described(signature, arrays, order)
    message.raw_input_contents.extend(bytes(bytes_of(arrays[position])) for position in order)
    request = decoded(message, GrpcCodec(signature, "m", "1"))
    assert all(map(same, request.arrays, arrays))
    assert (request.id, request.wanted) == ("7", None)
    assert request.rows == (arrays[0].shape[0] if signature.batched else 1)


@given(models(list(TYPED)), st.data())
def test_typed_contents_are_read_as_they_were(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, arrays = model
    order = data.draw(st.permutations(range(len(arrays))))
    message = described(signature, arrays, order)
    for tensor, position in zip(message.inputs, order, strict=True):
        field = TYPED[signature.inputs[position].datatype]
        getattr(tensor.contents, field).extend(arrays[position].reshape(-1).tolist())
    assert all(map(same, decoded(message, GrpcCodec(signature, "m", "1")).arrays, arrays))


@given(models(ALL), st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.booleans())
def test_outputs_are_written_as_protobuf_reads_them(
    model: tuple[Signature, list[NDArray[Any]]], request_id: str, streams: bool
) -> None:
    signature, arrays = model
    codec = GrpcCodec(signature, "müller", "3")
    request = InferRequest(arrays, arrays[0].shape[0] if signature.batched else 1, (), request_id)
    outputs = BatchOutputs(arrays, together=False)
    if streams:
        pieces = codec.encode(request, outputs, 0, request.rows, FINAL_RESPONSE)
        outer = message_class("inference.ModelStreamInferResponse").FromString(stream_response(pieces))
        assert outer.error_message == ""
        answer = outer.infer_response
        assert answer.parameters["triton_final_response"].bool_param is True
    else:
        pieces = codec.encode(request, outputs, 0, request.rows)
        answer = message_class("inference.ModelInferResponse").FromString(b"".join(pieces))
        assert not answer.parameters
    assert (answer.model_name, answer.model_version, answer.id) == ("müller", "3", request_id)
    assert [(o.name, o.datatype, tuple(o.shape)) for o in answer.outputs] == [
        (spec.name, spec.datatype, array.shape) for spec, array in zip(signature.outputs, arrays, strict=True)
    ]
    for spec, array, raw in zip(signature.outputs, arrays, answer.raw_output_contents, strict=True):
        assert same(array_of(spec, memoryview(raw), array.shape, array.size), array)


def test_one_request_gets_its_rows_of_a_batch() -> None:
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    pieces = CODEC.encode(decoded(iris(2)), BatchOutputs([rows], together=True), 3, 5)
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(pieces))
    assert tuple(answer.outputs[0].shape) == (2, 3)
    assert answer.raw_output_contents[0] == rows[3:5].tobytes()


def test_raw_numbers_are_not_copied_on_their_way_in() -> None:
    body = iris(64).SerializeToString()
    request = CODEC.decode(read_infer(body, LIMIT))
    assert np.shares_memory(request.arrays[0], np.frombuffer(body, np.uint8))


def test_outputs_are_not_copied_before_they_are_joined() -> None:
    array = np.ones((64, 3), np.float32)
    *_, tensor = CODEC.encode(decoded(iris(64)), BatchOutputs([array], together=False), 0, 64)
    assert np.shares_memory(np.frombuffer(tensor, np.uint8), array)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_as_the_clients_mistake(body: bytes) -> None:
    with suppress(RequestError):
        CODEC.decode(read_infer(body, LIMIT))


@given(st.data())
def test_a_damaged_request_is_read_or_refused_as_the_clients_mistake(data: st.DataObject) -> None:
    message = iris(data.draw(st.integers(0, 3)))
    message.inputs[0].parameters["x"].int64_param = 1
    message.parameters["timeout"].int64_param = data.draw(st.integers(-(2**63), 2**63 - 1))
    message.parameters["priority"].uint64_param = data.draw(st.integers(0, 2**64 - 1))
    output = message.outputs.add(name="y")
    output.parameters["classification"].int64_param = data.draw(st.integers(-3, 2**63 - 1))
    message.inputs[0].contents.fp32_contents.extend(data.draw(st.lists(st.floats(width=32), max_size=4)))
    body = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RequestError):
        CODEC.decode(read_infer(bytes(body[: data.draw(st.integers(0, len(body)))]), LIMIT))


def test_timeout_and_priority_reach_the_request() -> None:
    message = iris()
    message.parameters["timeout"].int64_param = 1500
    message.parameters["priority"].uint64_param = 3
    message.parameters["sequence_note"].string_param = "read over"
    request = decoded(message)
    assert (request.timeout_ns, request.priority) == (1_500_000, 3)


@pytest.mark.parametrize("value", [{"string_param": "5"}, {"double_param": 5.0}, {"bool_param": True}, {}])
def test_a_timeout_is_a_whole_number(value: dict[str, Any]) -> None:
    message = iris()
    message.parameters["timeout"].CopyFrom(message_class("inference.InferParameter")(**value))
    assert "timeout" in refusal(message)


def test_a_negative_timeout_is_refused() -> None:
    message = iris()
    message.parameters["timeout"].int64_param = -1
    assert "timeout" in refusal(message)


def test_outputs_can_be_asked_for_as_classes() -> None:
    message = iris(2)
    message.outputs.add(name="y").parameters["classification"].int64_param = 2
    request = decoded(message)
    scores = np.array([[0.5, 2, 1], [3, 0, 1]], np.float32)
    pieces = CODEC.encode(request, BatchOutputs([scores], together=False), 0, 2)
    answer = message_class("inference.ModelInferResponse").FromString(b"".join(pieces))
    assert (answer.outputs[0].datatype, tuple(answer.outputs[0].shape)) == ("BYTES", (2, 2))
    spec = TensorSpec("y", "BYTES", (FREE, 2))
    texts = array_of(spec, memoryview(answer.raw_output_contents[0]), (2, 2), 4)
    assert texts.tolist() == [[b"2.000000:1", b"1.000000:2"], [b"3.000000:0", b"1.000000:2"]]


def test_an_unknown_output_is_named_with_what_there_is() -> None:
    message = iris()
    message.outputs.add(name="z")
    assert refusal(message) == "the model has no output 'z'; it has 'y'"
    message = iris()
    message.outputs.add(name="y")
    message.outputs.add(name="y")
    assert "twice" in refusal(message)


def test_raw_tensors_are_as_many_as_inputs() -> None:
    message = iris()
    message.raw_input_contents.append(b"")
    assert "raw_input_contents has 2 tensors, and 1 inputs are not in shared memory" in refusal(message)


def test_a_tensor_given_twice_is_refused() -> None:
    message = iris()
    message.inputs[0].contents.fp32_contents.extend([0.0] * 4)
    assert "given twice" in refusal(message)


def test_raw_bytes_fit_the_shape() -> None:
    message = iris()
    message.raw_input_contents[0] += b"\0"
    assert refusal(message) == "input 'X' of shape [1, 4] FP32 needs 16 bytes, got 17"


def test_typed_contents_fit_the_shape_and_the_datatype() -> None:
    message = request_message()
    message.inputs.add(name="X", datatype="FP32", shape=(1, 4)).contents.fp32_contents.extend([1.0] * 3)
    assert "needs 4 elements, contents.fp32_contents has 3" in refusal(message)
    bytes_model = Signature((TensorSpec("n", "INT8", (FREE,)),), (TensorSpec("n", "INT8", (FREE,)),), True)
    message = request_message()
    message.inputs.add(name="n", datatype="INT8", shape=(1,)).contents.int_contents.append(128)
    assert "beyond that range" in refusal(message, GrpcCodec(bytes_model, "m", "1"))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_travel_raw_only(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (FREE,))
    message = request_message()
    message.inputs.add(name="x", datatype=datatype, shape=(1,)).contents.fp32_contents.append(1.0)
    assert "raw_input_contents" in refusal(message, GrpcCodec(Signature((spec,), (spec,), True), "m", "1"))


def test_whatever_byte_is_not_zero_is_true() -> None:
    spec = TensorSpec("x", "BOOL", (FREE,))
    assert array_of(spec, memoryview(b"\0\1\2\xff"), (4,), 4).view(np.uint8).tolist() == [0, 1, 1, 1]


def test_elements_that_become_objects_have_a_limit() -> None:
    spec = TensorSpec("x", "BYTES", (FREE,))
    many = DEFAULT_LIMITS.bytes_element_limit + 1
    message = request_message(raw_input_contents=[b"\0\0\0\0" * many])
    message.inputs.add(name="x", datatype="BYTES", shape=(many,))
    with pytest.raises(RequestTooLarge, match="BYTES elements"):
        GrpcCodec(Signature((spec,), (spec,), True), "m", "1").decode(read_infer(message.SerializeToString(), LIMIT))


def test_what_is_not_raw_has_a_limit_of_its_own() -> None:
    message = request_message()
    message.inputs.add(name="X", datatype="FP32", shape=(100, 4)).contents.fp32_contents.extend([0.0] * 400)
    with pytest.raises(RequestTooLarge, match="raw_input_contents"):
        read_infer(message.SerializeToString(), 400)
    read_infer(iris(100).SerializeToString(), 400)


def test_an_error_on_a_stream_names_its_request() -> None:
    answer = message_class("inference.ModelStreamInferResponse").FromString(stream_error("nö", "iris", "7"))
    assert answer.error_message == "nö"
    assert (answer.infer_response.model_name, answer.infer_response.id) == ("iris", "7")
