"""Whatever the body is, reading it gives a request that fits the signature, or the client's error: nothing else."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import dumps, json_values, models, plain

from setpoint.core import DATATYPES, FREE, Endpoint, InvalidRequest, Parameter, Signature, TensorSpec
from setpoint.wire import InferRequest, NativeTensorCodec, V2Codec, check_object, count_rows

ALL_TYPES = tuple(TensorSpec(name, name, (FREE, 2)) for name in DATATYPES)
SIGNATURES = [
    Signature((TensorSpec("x", "FP32", (FREE, 4)),), (TensorSpec("y", "FP32", (FREE,)),), True),
    Signature((TensorSpec("x", "BYTES", (FREE, FREE)), TensorSpec("y", "INT64", (FREE,))), (), True),
    Signature((TensorSpec("x", "BOOL", ()), TensorSpec("y", "UINT64", (2, FREE, 0))), (), False),
    Signature(ALL_TYPES, (), True),
    Signature((), (), False),
]
CODECS = [codec for s in SIGNATURES for codec in (V2Codec(s, "m", "1"), NativeTensorCodec(s))]
BATCHED = Endpoint("f", (Parameter("x", {}), Parameter("y", {}, required=False)), {}, batch_rows=8)


def check(signature: Signature, request: InferRequest) -> None:
    """A request that was let through fits."""
    assert len(request.arrays) == len(signature.inputs)
    for spec, array in zip(signature.inputs, request.arrays, strict=True):
        assert array.dtype == spec.type.dtype
        assert len(array.shape) == len(spec.shape)
        assert all(want in (FREE, got) for got, want in zip(array.shape, spec.shape, strict=True))
        assert not array.dtype.hasobject or all(isinstance(element, bytes) for element in array.ravel())
    assert request.rows >= 1
    if signature.batched:
        assert {array.shape[0] for array in request.arrays} == {request.rows}


def refused(read: Callable[[], Any]) -> str:
    """What the client would be told; empty where the body was let through. Any other error passes."""
    try:
        read()
    except InvalidRequest as refusal:
        return refusal.message or "no message"
    return ""


def offer(body: bytes) -> None:
    """Give a body to every reader."""
    for signature, codec in zip([s for s in SIGNATURES for _ in range(2)], CODECS, strict=True):
        message = refused(lambda codec=codec, signature=signature: check(signature, codec.decode(body)))
        assert message != "no message"
        assert len(message) < 2000
    refused(lambda: check_object(body))
    if not refused(lambda: count_rows(BATCHED, body)):
        assert count_rows(BATCHED, body) >= 1


@given(st.binary(max_size=200))
@settings(max_examples=300)
@example(b"\x00")
@example(b'{"x":' * 3000)
@example(b"[" * 100_000)
@example(b'{"inputs":[' + b"[" * 100_000)
def test_any_bytes(body: bytes) -> None:
    offer(body)


@given(json_values)
@settings(max_examples=300)
def test_any_json(value: Any) -> None:
    offer(dumps(value))


@given(st.dictionaries(st.sampled_from(["x", "y", *DATATYPES]), json_values, max_size=4))
@settings(max_examples=300)
def test_any_native_arguments(arguments: dict[str, Any]) -> None:
    offer(dumps(arguments))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from(["x", "y"]) | json_values,
                "shape": st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**63, 10**4000]), max_size=4)
                | json_values,
                "datatype": st.sampled_from(list(DATATYPES)) | json_values,
                "data": json_values | st.lists(json_values, max_size=5) | st.lists(st.lists(json_values, max_size=3)),
            }
        ),
        max_size=3,
    )
)
@settings(max_examples=500)
def test_any_v2_inputs(inputs: list[dict[str, Any]]) -> None:
    offer(dumps({"inputs": inputs}))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, child in inside for place in places(child, (*path, key))]]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = put(document[path[0]], path[1:], value)
    return copy


def valid(signature: Signature, arrays: list[NDArray[Any]]) -> list[Any]:
    pairs = list(zip(signature.inputs, arrays, strict=True))
    flat = [
        {"name": s.name, "shape": list(a.shape), "datatype": s.datatype, "data": plain(a.reshape(-1))} for s, a in pairs
    ]
    return [{"id": "1", "inputs": flat, "outputs": []}, {s.name: plain(a) for s, a in pairs}]


@given(models(min_side=1), st.data())
@settings(max_examples=500)
def test_a_valid_request_with_one_value_replaced(
    model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject
) -> None:
    signature, arrays = model
    for codec, document in zip(
        (V2Codec(signature, "m", "1"), NativeTensorCodec(signature)), valid(signature, arrays), strict=True
    ):
        check(signature, codec.decode(dumps(document)))
        damaged = put(document, data.draw(st.sampled_from(places(document))), data.draw(json_values))
        try:
            request = codec.decode(dumps(damaged))
        except InvalidRequest:
            continue
        check(signature, request)


@given(models(), st.data())
@settings(max_examples=500)
def test_a_valid_request_with_damaged_bytes(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, arrays = model
    document = data.draw(st.sampled_from(valid(signature, arrays)))
    body = bytearray(json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(body) - 1))
        body[where : where + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"null", b"[", b"]", b"{", b'"', b"-", b"e9", b"\\ud800", b"\xff"])
        )
        if not body:
            break
    for codec in (V2Codec(signature, "m", "1"), NativeTensorCodec(signature)):
        try:
            request = codec.decode(bytes(body))
        except InvalidRequest:
            continue
        check(signature, request)
