"""OpenAI's embeddings: what clients may send, what they get, and what they are told."""

import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import (
    DeadlineExceeded,
    EmbeddingForm,
    InvalidRequest,
    ModelError,
    NotFound,
    OverShare,
    QueueFull,
    SetpointError,
)
from setpoint.wire import (
    UnknownModel,
    asked_model,
    body_of,
    decode_embeddings,
    encode_embeddings,
    listed_model,
    model_arguments,
    model_list,
    status_of,
)

PATH = b"/v1/embeddings"
PLAIN = EmbeddingForm("texts", texts=True, token_ids=False, counts_tokens=False, length=3, dimensions=())
RICH = EmbeddingForm("texts", texts=True, token_ids=True, counts_tokens=True, length=3, dimensions=(2,))
IDS = EmbeddingForm("ids", texts=False, token_ids=True, counts_tokens=False, length=0, dimensions=())
VECTORS = b"[[3.0,4.0,12.0],[0.25,-1.5,null]]"
ROWS = b'[{"embedding":[3.0,4.0,12.0],"tokens":5},{"embedding":[0,0,1],"tokens":2}]'


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "a", **fields}).encode()


def answered(answer: bytes, form: EmbeddingForm, **fields: Any) -> dict[str, Any]:
    answer = encode_embeddings(answer, decode_embeddings(body(**fields)), form)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def refusal(of: bytes, form: EmbeddingForm = PLAIN) -> dict[str, Any]:
    with pytest.raises(SetpointError) as caught:
        model_arguments(decode_embeddings(of), form)
    assert status_of(caught.value) == 400
    error: dict[str, Any] = json.loads(body_of(caught.value, PATH))["error"]
    return error


@pytest.mark.parametrize(
    ("given", "inputs", "are_texts"),
    [
        ("one", ["one"], True),
        ("", [""], True),
        (["one", "two"], ["one", "two"], True),
        ([1, 2, 3], [[1, 2, 3]], False),
        ([[1, 2], [3]], [[1, 2], [3]], False),
    ],
)
def test_the_four_kinds_of_input(given: Any, inputs: list[Any], are_texts: bool) -> None:
    request = decode_embeddings(body(input=given))
    assert (request.inputs, request.are_texts) == (inputs, are_texts)
    form = RICH if are_texts else IDS
    assert json.loads(model_arguments(request, form)) == {form.argument: inputs}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "empty"),
        ([[]], "empty"),
        ([[1], []], "empty"),
        (["a", 1], "mixes"),
        (["a", [1]], "mixes"),
        ([1, [1]], "mixes"),
        ([1.5], "token ids"),
        ([True], "token ids"),
        ({"a": 1}, "token ids"),
        (None, "token ids"),
        ([-1], "0 or more"),
        ([[1, -1]], "0 or more"),
        (["a"] * 2049, "2048"),
    ],
)
def test_input_of_no_such_kind_is_refused_by_name(given: Any, why: str) -> None:
    error = refusal(body(input=given), RICH)
    assert (error["param"], error["type"], error["code"]) == ("input", "invalid_request_error", "invalid_request")
    assert why in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": -1}, "dimensions"),
        ({"dimensions": 2}, "dimensions"),
        ({"dimensions": 4}, "dimensions"),
        ({"input": [1, 2]}, "input"),
    ],
)
def test_what_this_model_cannot_do_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(body(**fields))["param"] == param


def test_texts_are_refused_where_only_token_ids_are_taken() -> None:
    assert "takes token ids" in refusal(body(), IDS)["message"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"model":"m"}', b'{"input":"a"}', b'{"model":1,"input":"a"}'])
def test_what_is_no_request_is_the_clients_mistake(text: bytes) -> None:
    assert refusal(text)["type"] == "invalid_request_error"


def test_fields_that_nobody_knows_are_ignored() -> None:
    assert decode_embeddings(body(user="me", nonsense={"a": [1]}, dimensions=None)).dimensions == 0


def test_numbers_are_passed_on_as_they_are() -> None:
    answer = answered(VECTORS, PLAIN, input=["a", "b"])
    assert answer["object"] == "list"
    assert answer["model"] == "m"
    assert answer["data"] == [
        {"object": "embedding", "index": 0, "embedding": [3.0, 4.0, 12.0]},
        {"object": "embedding", "index": 1, "embedding": [0.25, -1.5, None]},
    ]


def test_base64_is_little_endian_float32() -> None:
    first, second = (row["embedding"] for row in answered(VECTORS, PLAIN, encoding_format="base64")["data"])
    assert np.frombuffer(base64.b64decode(first), "<f4").tolist() == [3.0, 4.0, 12.0]
    assert np.isnan(np.frombuffer(base64.b64decode(second), "<f4")[2])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_base64_gives_back_each_float32(vector: list[float]) -> None:
    text = json.dumps([vector]).encode()
    encoded = answered(text, PLAIN, encoding_format="base64")["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(encoded), "<f4").tolist() == vector


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_cut_vector_has_length_one(encoding: str) -> None:
    rows = answered(ROWS, RICH, dimensions=2, encoding_format=encoding)["data"]
    read = [
        np.frombuffer(base64.b64decode(row["embedding"]), "<f4") if encoding == "base64" else row["embedding"]
        for row in rows
    ]
    assert np.allclose(read[0], [0.6, 0.8])
    assert np.allclose(read[1], [0, 0])  # nothing to scale


def test_its_own_length_may_be_asked_for() -> None:
    assert answered(ROWS, RICH, dimensions=3)["data"][0]["embedding"] == [3.0, 4.0, 12.0]


def test_usage_is_what_the_model_counted() -> None:
    assert answered(ROWS, RICH)["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_token_ids_count_themselves() -> None:
    assert answered(b"[[1],[2]]", IDS, input=[[1, 2], [3]])["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_an_estimate_says_that_it_is_one() -> None:
    usage = answered(VECTORS, PLAIN, input=["12345", "é"])["usage"]
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (3, 3)
    assert "estimated" in usage["counted"]


@pytest.mark.parametrize("answer", [b"{}", b'[{"embedding":[1]}]', b'[["a"]]', b"[1]"])
@pytest.mark.parametrize("form", [PLAIN, RICH])
def test_an_answer_that_is_no_list_of_vectors_is_the_models_failure(answer: bytes, form: EmbeddingForm) -> None:
    with pytest.raises(ModelError):
        encode_embeddings(answer, decode_embeddings(body(encoding_format="base64")), form)


@pytest.mark.parametrize(
    ("error", "kind", "code", "param"),
    [
        (InvalidRequest("m"), "invalid_request_error", "invalid_request", None),
        (NotFound("m"), "invalid_request_error", "not_found", None),
        (UnknownModel("m"), "invalid_request_error", "model_not_found", "model"),
        (QueueFull("m"), "server_error", "queue_full", None),
        (OverShare("m"), "rate_limit_error", "over_share", None),
        (DeadlineExceeded("m"), "server_error", "deadline_exceeded", None),
        (ModelError("m"), "server_error", "model_error", None),
    ],
    ids=repr,
)
def test_errors_are_objects(error: SetpointError, kind: str, code: str, param: str | None) -> None:
    expected = {"message": "m", "type": kind, "param": param, "code": code}
    assert json.loads(body_of(error, PATH)) == {"error": expected}
    assert json.loads(body_of(error, b"/v2/models/m/infer")) == {"error": "m"}


def test_a_model_that_is_not_there_is_called_so_on_its_own_path() -> None:
    assert json.loads(body_of(NotFound("m"), b"/v1/models/x"))["error"]["code"] == "model_not_found"
    assert status_of(UnknownModel("m")) == 404


def test_models_are_listed() -> None:
    listed = listed_model("m", "2026-01-02T03:04:05+00:00")
    assert json.loads(model_list([listed])) == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 1767323045, "owned_by": "setpoint"}],
    }


def test_any_request_names_its_model() -> None:
    assert asked_model(b'{"model":"m","messages":[]}') == "m"
    assert asked_model(b"{}") == ""
    with pytest.raises(InvalidRequest):
        asked_model(b"[]")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_no_input_is_anything_but_read_or_refused(value: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        model_arguments(decode_embeddings(body(input=value)), RICH)
