"""What is asked of a node, in which form, and what becomes of its answers."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from setpoint.client.exchange import Reply, TransportFailure
from setpoint.client.operations import ModelInfo, Operations, Terms
from setpoint.client.tensors import decode_infer, encode_infer
from setpoint.core import DATATYPES, InvalidConfiguration, InvalidRequest, ModelError, NotFound, Signature, TensorSpec
from setpoint.wire import V2Codec

METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "x",
    "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "Y", "datatype": "INT64", "shape": [-1]}],
}
X = np.array([[1, 2], [3, 4]], np.float32)


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, bytearray(body))


SERVER_JSON, SERVER_BINARY = reply({"extensions": []}), reply({"extensions": ["binary_tensor_data"]})
ANSWER_JSON = reply({"outputs": [{"name": "Y", "datatype": "INT64", "shape": [2], "data": [5, 6]}]})


@pytest.fixture
def operations(clock):
    return Operations(Terms(headers={"authorization": "Bearer x"}), clock, chance=lambda: 0.0)


def asked(drive, index: int) -> Any:
    request = drive.sent[index].request
    size = int(request.headers.get("inference-header-content-length", len(b"".join(request.parts))))
    return json.loads(b"".join(request.parts)[:size])


def test_json_where_the_server_knows_nothing_else(drive, operations):
    answer = drive(operations.infer("m", {"X": X}, None, None, None), [reply(METADATA), SERVER_JSON, ANSWER_JSON])
    assert answer["Y"].tolist() == [5, 6]
    assert answer["Y"].dtype == np.int64
    assert [send.request.path for send in drive.sent] == ["/v2/models/m", "/v2", "/v2/models/m/infer"]
    assert asked(drive, 2) == {
        "inputs": [{"name": "X", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]
    }
    assert drive.sent[2].request.headers["content-type"] == "application/json"


def test_binary_where_it_says_so(drive, operations):
    head = json.dumps(
        {"outputs": [{"name": "Y", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}}]}
    ).encode()
    binary = reply(head + np.array([5, 6]).tobytes(), inference_header_content_length=str(len(head)))
    answer = drive(operations.infer("m", {"X": X}, ["Y"], None, 1), [reply(METADATA), SERVER_BINARY, binary])
    assert answer["Y"].tolist() == [5, 6]
    answer["Y"][0] = 7  # the caller's own
    assert asked(drive, 2) == {
        "inputs": [{"name": "X", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "Y"}],
        "parameters": {"binary_data_output": True},
    }
    request = drive.sent[2].request
    assert b"".join(request.parts).endswith(X.tobytes())
    assert request.headers["setpoint-priority"] == "1"
    assert request.headers["authorization"] == "Bearer x"


def test_what_a_model_is_is_asked_once(drive, operations):
    first = [reply(METADATA), SERVER_JSON, ANSWER_JSON]
    drive(operations.infer("m", {"X": X}, None, None, None), first)
    drive(operations.infer("m", {"X": X}, None, None, None), [ANSWER_JSON])
    assert len(drive.sent) == 4


def test_and_again_when_it_may_be_another(drive, operations):
    drive(operations.infer("m", {"X": X}, None, None, None), [reply(METADATA), SERVER_JSON, ANSWER_JSON])
    with pytest.raises(InvalidRequest):
        drive(operations.infer("m", {"X": X}, None, None, None), [reply({"error": "takes Z"}, 400)])
    drive(operations.infer("m", {"X": X}, None, None, None), [reply(METADATA), ANSWER_JSON])
    assert [send.request.path for send in drive.sent[-2:]] == ["/v2/models/m", "/v2/models/m/infer"]


def test_versions_and_names_are_parts_of_the_path(drive, operations):
    with pytest.raises(NotFound):
        drive(operations.infer("a b/c:champion", {"X": X}, None, None, None), [reply({"error": "no"}, 404)])
    assert drive.sent[0].request.path == "/v2/models/a%20b%2Fc/versions/champion"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"Z": X}, "no input 'Z'; it takes X"),
        ({"X": [["a", "b"]]}, "got an array of <U1"),
        ({"X": X.astype(complex)}, "got an array of complex"),
    ],
)
def test_inputs_that_cannot_fit_are_not_sent(drive, operations, inputs, message):
    with pytest.raises(InvalidRequest, match=message):
        drive(operations.infer("m", inputs, None, None, None), [reply(METADATA), SERVER_JSON])
    assert len(drive.sent) == 2


def test_calls_speak_json(drive, operations):
    answer = drive(operations.call("m/e", {"a": X, "b": np.int64(3), "c": b"x", "d": None}), [reply([1, "two"])])
    assert answer == [1, "two"]
    assert asked(drive, 0) == {"a": [[1.0, 2.0], [3.0, 4.0]], "b": 3, "c": "x", "d": None}
    assert drive.sent[0].request.path == "/models/m/e"


def test_calls_that_cannot_be_said_are_not_sent(drive, operations):
    for route in ("m", "m/", ""):
        with pytest.raises(InvalidRequest, match="expected a route such as"):
            drive(operations.call(route, {}), [])
    with pytest.raises(InvalidRequest, match="a value of type object"):
        drive(operations.call("m/e", {"a": object()}), [])


def test_models_are_listed(drive, operations):
    document = {"models": [{"name": "m", "version": "3", "endpoints": ["m/e"], "more": 1, **METADATA}]}
    (model,) = drive(operations.models(), [reply(document)])
    assert model == ModelInfo(
        "m",
        "3",
        endpoints=("m/e",),
        inputs=(TensorSpec("X", "FP32", (-1, 2)),),
        outputs=(TensorSpec("Y", "INT64", (-1,)),),
    )


@pytest.mark.parametrize("answer", [b"", b"{}", b"[", b'{"models":3}'])
def test_an_answer_that_is_none_is_said(drive, operations, answer):
    with pytest.raises(ModelError, match="not what was expected"):
        drive(operations.models(), [reply(answer)])


def test_ready_is_a_question_that_never_fails(drive, operations):
    assert drive(operations.ready(), [reply({})]) is True
    assert drive(operations.ready(), [reply({}, 503, retry_after="1")]) is False
    assert drive(operations.ready(), [TransportFailure("nobody", sent=False)]) is False
    assert drive.paused_s == []


def test_impossible_terms_are_refused():
    with pytest.raises(InvalidConfiguration, match="above 0"):
        Terms(timeout_s=0)


NAMES = [name for name in DATATYPES if name != "BYTES"]


@given(st.data(), st.sampled_from(NAMES), st.booleans())
def test_what_the_node_reads_is_what_was_given(data, name, binary):
    datatype = DATATYPES[name]
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    if name == "BF16":
        array = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-8, 8, width=16))).astype(ml_dtypes.bfloat16)
    else:
        elements = {"allow_nan": False, "allow_infinity": False} if datatype.is_float else {}
        array = data.draw(hnp.arrays(datatype.dtype, shape, elements=hnp.from_dtype(datatype.dtype, **elements)))
    spec = TensorSpec("X", name, (-1,) * len(shape))
    if not binary and not datatype.json_number:
        with pytest.raises(InvalidRequest, match="no form"):
            encode_infer("m", {"X": spec}, {"X": array}, None, binary=False)
        return
    headers, parts = encode_infer("m", {"X": spec}, {"X": array}, None, binary=binary)
    codec = V2Codec(Signature((spec,), (spec,), batched=False), "m", "1")
    size = headers.get("inference-header-content-length")
    (read,) = codec.decode(b"".join(parts), None if size is None else int(size)).arrays
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_texts_and_bytes_are_told_apart():
    def answer(*elements: bytes) -> np.ndarray:
        raw = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
        head = json.dumps(
            {
                "outputs": [
                    {
                        "name": "Y",
                        "datatype": "BYTES",
                        "shape": [len(elements)],
                        "parameters": {"binary_data_size": len(raw)},
                    }
                ]
            }
        ).encode()
        return decode_infer(reply(head + raw, inference_header_content_length=str(len(head))))["Y"]

    assert answer("é".encode(), b"").tolist() == ["é", ""]
    assert answer(b"\xff", b"a").tolist() == [b"\xff", b"a"]


@pytest.mark.parametrize(
    ("output", "size"),
    [
        ({"name": "Y", "datatype": "INT64", "shape": [2], "data": [1]}, None),
        ({"name": "Y", "datatype": "INT65", "shape": [2], "data": [1, 2]}, None),
        ({"name": "Y", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 8}}, "all"),
        ({"name": "Y", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": "x"}}, "all"),
        ({"name": "Y", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 3}}, "all"),
        ({"name": "Y"}, None),
        ({"name": "Y", "datatype": "INT64", "shape": [1], "data": [1]}, "x"),
    ],
)
def test_malformed_answers_are_said(output, size):
    head = json.dumps({"outputs": [output]}).encode()
    headers = {} if size is None else {"inference_header_content_length": str(len(head)) if size == "all" else size}
    with pytest.raises(ModelError, match="no V2 inference response"):
        decode_infer(reply(head + b"abc", **headers))
