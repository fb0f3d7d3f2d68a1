"""How deep JSON is nested is known before anything follows it down; strings cannot hide it."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import dumps

from setpoint.core import FREE, InvalidRequest, Limits, RequestTooLarge, Signature, TensorSpec
from setpoint.wire import NativeTensorCodec, V2Codec, check_depth
from setpoint.wire.grpc import GrpcCodec, message_class, read_infer
from setpoint.wire.json_depth import depth

X = TensorSpec("x", "FP32", (FREE, FREE))
NAMES = TensorSpec("names", "BYTES", (FREE,))
CHARACTERS = st.text(st.sampled_from('[]{}"\\ aé\n'), max_size=8)
VALUES: Any = st.recursive(
    st.none() | st.integers(0, 9) | CHARACTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CHARACTERS, inner, max_size=3),
    max_leaves=12,
)


def levels(value: Any) -> int:
    """The same by following it down."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
@example({"\\": ["]"], '"': [[]]}, True, None)
@example(['"', "\\\\", "[[[", [["]]]"]]], True, None)
def test_it_is_how_far_down_the_values_go(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert depth(text) == levels(value)


@given(st.binary(max_size=60))
def test_any_bytes_have_some_depth(text: bytes) -> None:
    assert 0 <= depth(text) <= len(text)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_the_limit_is_the_deepest_that_may_come() -> None:
    check_depth(nested(40), 40)
    check_depth(b"[%b]" % b",".join([nested(39)] * 500), 40)
    check_depth(b'["%b"]' % (b"[" * 500), 40)
    with pytest.raises(InvalidRequest, match=r"too deeply: in more than 40 levels.*limits\.json_depth_limit"):
        check_depth(nested(41), 40)
    with pytest.raises(InvalidRequest):
        check_depth(b'["%b",%b]' % (b"]" * 500, nested(41)), 40)


def request(shape: list[int], data: Any, datatype: str = "FP32", name: str = "x", **rest: Any) -> bytes:
    return dumps({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}], **rest})


def codec(spec: TensorSpec = X, **limits: int) -> V2Codec:
    return V2Codec(Signature((spec,), (X,), True), "m", "1", limits=Limits(**limits))


def read(reader: V2Codec, body: bytes) -> None:
    """As a route does with long bodies."""
    for _ in reader.read(body, None):
        pass


@pytest.mark.parametrize("way", [V2Codec.decode, read])
@pytest.mark.parametrize("padding", ["", "x" * 70_000])
def test_a_request_may_be_so_deep(way: Any, padding: str) -> None:
    for levels, allowed in ((28, True), (31, False)):
        body = request([1, 1], [1.0], unknown=json.loads(nested(levels)), id=padding)
        if allowed:
            way(codec(json_depth_limit=30), body)
        else:
            with pytest.raises(InvalidRequest, match="more than 30"):
                way(codec(json_depth_limit=30), body)


def test_the_json_before_binary_tensors_may_be_so_deep() -> None:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    head = dumps({"inputs": [tensor], "unknown": json.loads(nested(50))})
    codec(json_depth_limit=60).decode(head + bytes(4), len(head))
    with pytest.raises(InvalidRequest, match="too deeply"):
        codec(json_depth_limit=40).decode(head + bytes(4), len(head))


def test_a_tensor_may_have_so_many_elements() -> None:
    for shape, data in (([3, 2], [0.0] * 6), ([3, 2], [[0.0, 0.0]] * 3)):
        codec(element_limit=6).decode(request(shape, data))
        with pytest.raises(RequestTooLarge, match=r"6 elements, more than the limit of 5 \(limits\.element_limit\)"):
            codec(element_limit=5).decode(request(shape, data))
    with pytest.raises(RequestTooLarge, match="6 elements"):
        NativeTensorCodec(Signature((X,), (X,), True), Limits(element_limit=5)).decode(dumps({"x": [[0.0, 0.0]] * 3}))


def test_a_tensor_of_texts_may_have_fewer() -> None:
    def body(texts: int) -> bytes:
        return request([texts], ["a"] * texts, "BYTES", "names")

    reader = codec(NAMES, bytes_element_limit=4)
    reader.decode(body(4))
    with pytest.raises(RequestTooLarge, match=r"5 BYTES elements.*limit of 4 \(limits\.bytes_element_limit\)"):
        reader.decode(body(5))
    message = message_class("inference.ModelInferRequest")(raw_input_contents=[b"\0\0\0\0" * 5])
    message.inputs.add(name="names", datatype="BYTES", shape=(5,))
    over_grpc = GrpcCodec(Signature((NAMES,), (X,), True), "m", "1", limits=Limits(bytes_element_limit=4))
    with pytest.raises(RequestTooLarge, match="5 BYTES elements"):
        over_grpc.decode(read_infer(message.SerializeToString(), 1 << 20))


def test_a_tensor_may_have_so_many_axes() -> None:
    with pytest.raises(InvalidRequest, match="the model takes"):
        codec(rank_limit=9).decode(request([1] * 9, [0.0]))
    with pytest.raises(InvalidRequest, match=r"10 axes, more than the limit of 9 \(limits\.rank_limit\)"):
        codec(rank_limit=9).decode(request([1] * 10, [0.0]))


def test_a_request_may_name_so_many_tensors() -> None:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}
    with pytest.raises(InvalidRequest, match="takes each of these inputs once"):
        codec(tensor_limit=3).decode(dumps({"inputs": [tensor] * 3}))
    with pytest.raises(RequestTooLarge, match=r"has 4 inputs, more than the limit of 3 \(limits\.tensor_limit\)"):
        codec(tensor_limit=3).decode(dumps({"inputs": [tensor] * 4}))
    with pytest.raises(RequestTooLarge, match="asks for 4 outputs"):
        codec(tensor_limit=3).decode(request([1, 1], [0.0], outputs=[{"name": "x"}] * 4))
