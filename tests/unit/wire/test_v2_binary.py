"""Triton's binary tensor data extension: what is written is read back, and what does not add up is refused."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import dumps, models, plain, same

from setpoint.core import DATATYPES, FREE, InvalidRequest, RequestTooLarge, Signature, TensorSpec, encode_bytes_tensor
from setpoint.wire import BatchOutputs, InferRequest, V2Codec
from setpoint.wire.v2_header import json_length

ALL = list(DATATYPES)
IRIS = Signature((TensorSpec("X", "FP32", (FREE, 4)),), (TensorSpec("y", "FP32", (FREE, 3)),), True)
CODEC = V2Codec(IRIS, "iris", "3")


def raw(array: NDArray[Any]) -> bytes:
    return encode_bytes_tensor(array) if array.dtype.hasobject else array.tobytes()


def tensor(spec: TensorSpec, array: NDArray[Any]) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype}


def body_of(request: dict[str, Any], *tensors: bytes) -> tuple[bytes, int]:
    head = dumps(request)
    return b"".join([head, *tensors]), len(head)


def answered(codec: V2Codec, request: InferRequest, arrays: list[NDArray[Any]]) -> tuple[dict[str, Any], bytes]:
    pieces, json_bytes = codec.encode_binary(request, BatchOutputs(arrays, together=False), 0, request.rows)
    body = b"".join(pieces)
    return json.loads(body[:json_bytes]), body[json_bytes:]


def refusal(request: dict[str, Any], *tensors: bytes, codec: V2Codec = CODEC) -> str:
    with pytest.raises(InvalidRequest) as refused:
        codec.decode(*body_of(request, *tensors))
    return refused.value.message


@given(models(ALL), st.data())
def test_tensors_behind_the_json_and_in_it_are_read_alike(
    model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject
) -> None:
    signature, arrays = model
    inputs, tail = [], b""
    for spec, array in data.draw(st.permutations(list(zip(signature.inputs, arrays, strict=True)))):
        described = tensor(spec, array)
        if spec.type.json_number and data.draw(st.booleans()):
            described["data"] = plain(array.reshape(-1))
        else:
            described["parameters"] = {"binary_data_size": len(raw(array))}
            tail += raw(array)
        inputs.append(described)
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    request = V2Codec(signature, "m", "1").decode(*body_of(asked, tail))
    assert all(map(same, request.arrays, arrays))
    assert request.rows == (arrays[0].shape[0] if signature.batched else 1)


@given(models(ALL), st.data())
def test_outputs_stand_behind_the_json_or_in_it_as_asked(
    model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject
) -> None:
    signature, arrays = model
    codec = V2Codec(signature, "m", "1")
    by_default = data.draw(st.booleans())
    outputs, binary = [], {}
    for spec in data.draw(st.permutations(signature.outputs)):
        choice = data.draw(st.sampled_from([True, False, None])) if spec.type.json_number else True
        binary[spec.name] = by_default if choice is None else choice
        outputs.append({"name": spec.name, "parameters": {} if choice is None else {"binary_data": choice}})
    pairs = list(zip(signature.inputs, arrays, strict=True))
    inputs = [tensor(spec, array) | {"parameters": {"binary_data_size": len(raw(array))}} for spec, array in pairs]
    asked = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": by_default}}
    request = codec.decode(*body_of(asked, *[raw(array) for array in arrays]))
    if not any(binary.values()):
        assert request.binary == ()
        return
    response, tail = answered(codec, request, arrays)
    assert [output["name"] for output in response["outputs"]] == [output["name"] for output in outputs]
    for output in response["outputs"]:
        (array,) = [array for spec, array in pairs if spec.name == output["name"]]
        assert output["shape"] == list(array.shape)
        if binary[output["name"]]:
            size_bytes = output["parameters"]["binary_data_size"]
            assert tail[:size_bytes] == raw(array)
            assert "data" not in output
            tail = tail[size_bytes:]
        else:
            assert len(output["data"]) == array.size
    assert tail == b""


@given(models(ALL))
def test_what_was_written_can_be_read_again(model: tuple[Signature, list[NDArray[Any]]]) -> None:
    signature, arrays = model
    codec = V2Codec(signature, "m", "1")
    inputs = [
        tensor(spec, array) | {"parameters": {"binary_data_size": len(raw(array))}}
        for spec, array in zip(signature.inputs, arrays, strict=True)
    ]
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    request = codec.decode(*body_of(asked, *[raw(array) for array in arrays]))
    response, tail = answered(codec, request, arrays)
    again = {"inputs": response["outputs"], "parameters": {"binary_data_output": True}}
    assert all(map(same, codec.decode(*body_of(again, tail)).arrays, arrays))


@given(models(ALL), st.data())
def test_any_damage_is_read_or_refused(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, arrays = model
    inputs = [
        tensor(spec, array) | {"parameters": {"binary_data_size": len(raw(array))}}
        for spec, array in zip(signature.inputs, arrays, strict=True)
    ]
    body, json_bytes = body_of({"inputs": inputs}, *[raw(array) for array in arrays])
    at = data.draw(st.integers(0, len(body)))
    body = body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 4)) :]
    json_bytes = data.draw(st.just(json_bytes) | st.integers(0, len(body)))
    codec = V2Codec(signature, "m", "1")
    with suppress(InvalidRequest):
        request = codec.decode(body, min(json_bytes, len(body)))
        assert [array.dtype for array in request.arrays] == [spec.type.dtype for spec in signature.inputs]


X = {"name": "X", "shape": [1, 4], "datatype": "FP32"}
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32).tobytes()


@pytest.mark.parametrize(
    ("request_json", "tail", "says"),
    [
        ({"inputs": [X | {"parameters": {"binary_data_size": 16}}]}, ROW[:-1], "behind the JSON 15 bytes are left"),
        ({"inputs": [X | {"parameters": {"binary_data_size": 16}}]}, ROW + b"!", "stand 17 bytes"),
        ({"inputs": [X | {"parameters": {"binary_data_size": 12}}]}, ROW[:12], "needs 16 bytes, got 12"),
        ({"inputs": [X | {"parameters": {"binary_data_size": -16}}]}, ROW, "binary_data_size -16"),
        ({"inputs": [X | {"parameters": {"binary_data_size": "16"}}]}, ROW, "Expected `int`, got `str`"),
        ({"inputs": [X | {"parameters": {"binary_data_size": 16}, "data": [1, 2, 3, 4]}]}, ROW, "is given twice"),
        ({"inputs": [X | {"data": [1, 2, 3, 4]}]}, ROW, "binary_data_size are 0 together"),
        ({"inputs": [X]}, ROW, "'X' has no data"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(request_json: dict[str, Any], tail: bytes, says: str) -> None:
    assert says in refusal(request_json, tail)


def test_a_tensor_behind_the_json_needs_the_header_that_says_where() -> None:
    body, _ = body_of({"inputs": [X | {"parameters": {"binary_data_size": 16}}]})
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        CODEC.decode(body)


def test_time_and_urgency_are_read() -> None:
    request = CODEC.decode(dumps({"inputs": [X | {"data": [1, 2, 3, 4]}], "parameters": {"timeout": 5, "priority": 1}}))
    assert (request.timeout_ns, request.priority) == (5000, 1)
    for parameters in ({"timeout": -1}, {"timeout": 10**12}, {"priority": -1}, {"timeout": "5"}):
        refusal({"inputs": [X | {"data": [1, 2, 3, 4]}], "parameters": parameters})


def test_bytes_of_booleans_are_true_unless_they_are_0() -> None:
    codec = V2Codec(Signature((TensorSpec("x", "BOOL", (3,)),), (), False), "m", "1")
    described = {"name": "x", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}}
    (array,) = codec.decode(*body_of({"inputs": [described]}, b"\x00\x01\x02")).arrays
    assert array.tolist() == [False, True, True]
    assert array.tobytes() == b"\x00\x01\x01"


class TestARawTensor:
    def test_is_the_whole_body(self) -> None:
        request = CODEC.decode(ROW, 0)
        assert request.arrays[0].tobytes() == ROW
        assert request.binary == (True,)

    def test_leaves_one_axis_open(self) -> None:
        codec = V2Codec(Signature((TensorSpec("x", "INT16", (FREE, 2, FREE)),), (), True), "m", "1")
        assert codec.decode(bytes(24), 0).arrays[0].shape == (1, 2, 6)
        with pytest.raises(InvalidRequest, match="needs 24 bytes, got 25"):
            codec.decode(bytes(25), 0)

    @pytest.mark.parametrize(
        ("specs", "says"),
        [
            ((), "fits models of one input"),
            ((TensorSpec("a", "FP32", (1,)), TensorSpec("b", "FP32", (1,))), "fits models of one input"),
            ((TensorSpec("a", "FP32", (FREE, FREE)),), "one axis open at most"),
            ((TensorSpec("a", "BYTES", (2,)),), "is one element"),
            ((TensorSpec("a", "FP32", (FREE, 0)),), "needs 0 bytes, got 4"),
        ],
    )
    def test_fits_only_models_that_leave_no_doubt(self, specs: tuple[TensorSpec, ...], says: str) -> None:
        with pytest.raises(InvalidRequest, match=says):
            V2Codec(Signature(specs, (), False), "m", "1").decode(b"1234", 0)

    def test_of_bytes_is_one_element(self) -> None:
        codec = V2Codec(Signature((TensorSpec("x", "BYTES", (FREE, 1)),), (), True), "m", "1")
        (array,) = codec.decode(b"\xff any bytes", 0).arrays
        assert array.tolist() == [[b"\xff any bytes"]]


def test_bytes_tensors_have_a_limit_of_elements() -> None:
    codec = V2Codec(Signature((TensorSpec("x", "BYTES", (FREE,)),), (), True), "m", "1")
    described = {"name": "x", "shape": [2**21], "datatype": "BYTES", "parameters": {"binary_data_size": 2**23}}
    with pytest.raises(RequestTooLarge, match="BYTES elements"):
        codec.decode(*body_of({"inputs": [described]}, bytes(2**23)))


@pytest.mark.parametrize("asked", [{}, {"parameters": {"binary_data_output": False}}])
def test_datatypes_without_a_json_form_must_be_asked_for_as_binary(asked: dict[str, Any]) -> None:
    codec = V2Codec(Signature((), (TensorSpec("y", "BF16", (1,)),), False), "m", "1")
    assert "which has no V2 JSON form; ask for it with binary_data" in refusal({"inputs": []} | asked, codec=codec)
    assert codec.decode(dumps({"inputs": [], "parameters": {"binary_data_output": True}})).binary == (True,)


@pytest.mark.parametrize(("value", "length"), [(None, None), (b"0", 0), (b" 7 ", 7), (b"10", 10)])
def test_the_header_says_where_the_json_ends(value: bytes | None, length: int | None) -> None:
    assert json_length(value, 10) == length


@pytest.mark.parametrize("value", [b"", b"-1", b"11", b"1.0", b"0x1", b"1" * 5000, b"\xb2", b"1,1"])
def test_a_length_beyond_the_body_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        json_length(value, 10)
