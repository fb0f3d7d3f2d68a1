"""Triton's generate extension: what a text endpoint is, what it is given, what clients read."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dumps, json_values

from setpoint.core import Endpoint, InvalidRequest, ModelError, Parameter
from setpoint.wire import GenerateCodec, TextEndpoint, generate_error, text_endpoint

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
SAY = Endpoint("say", (Parameter("prompt", TEXT), Parameter("times", {"type": "integer"}, required=False)), TEXT)
STREAM = Endpoint("stream", SAY.parameters, TEXT, streams=True)
MANY = Endpoint("many", (Parameter("prompts", TEXTS),), TEXTS, batch_rows=8)


def codec(endpoint: Endpoint = SAY) -> GenerateCodec:
    text = text_endpoint([endpoint], streams=endpoint.streams)
    assert text is not None
    return GenerateCodec(text, 'm"', "3")


def arguments(body: Any, endpoint: Endpoint = SAY) -> Mapping[str, Any]:
    given, _ = codec(endpoint).decode(dumps(body))
    decoded: Mapping[str, Any] = json.loads(given)
    return decoded


def test_the_first_endpoint_that_fits_generates() -> None:
    picture = Endpoint("see", (Parameter("image", TEXT | {"contentEncoding": "base64"}),), TEXT)
    pair = Endpoint("pair", (Parameter("a", TEXT), Parameter("b", TEXT)), TEXT)
    needs = Endpoint("needs", (Parameter("a", TEXT), Parameter("n", {"type": "integer"})), TEXT)
    score = Endpoint("score", (Parameter("a", TEXT),), {"type": "number"})
    others = [picture, pair, needs, score]
    assert text_endpoint([*others, SAY, STREAM, MANY], streams=False) == TextEndpoint(SAY, "prompt")
    assert text_endpoint([*others, SAY, STREAM, MANY], streams=True) == TextEndpoint(STREAM, "prompt")
    assert text_endpoint([MANY], streams=False) == TextEndpoint(MANY, "prompts")
    assert text_endpoint(others, streams=False) is None
    assert text_endpoint([SAY], streams=True) is None


def test_of_several_texts_the_one_called_text_input_is_it() -> None:
    takes = (Parameter("system", TEXT, required=False), Parameter("text_input", TEXT))
    both = Endpoint("both", takes, TEXT)
    assert text_endpoint([both], streams=False) == TextEndpoint(both, "text_input")
    assert arguments({"text_input": "a", "system": "b"}, both) == {"text_input": "a", "system": "b"}


def test_arguments_stand_at_the_top_or_among_the_parameters() -> None:
    assert arguments({"text_input": "a", "times": 3}) == {"prompt": "a", "times": 3}
    assert arguments({"text_input": "a", "parameters": {"times": 3}}) == {"prompt": "a", "times": 3}
    assert arguments({"text_input": "a", "times": 1, "parameters": {"times": 3}}) == {"prompt": "a", "times": 3}


def test_what_the_endpoint_does_not_take_is_read_over() -> None:
    asked = {"text_input": "a", "stream": False, "prompt": "b", "parameters": {"temperature": 1, "prompt": "c"}}
    assert arguments(asked) == {"prompt": "a"}


def test_batched_endpoints_are_given_one_row() -> None:
    assert arguments({"text_input": "a"}, MANY) == {"prompts": ["a"]}
    assert json.loads(codec(MANY).answer(b' ["b"] ', ""))["text_output"] == "b"


def test_an_answer_names_its_model_and_request() -> None:
    answer = {"model_name": 'm"', "model_version": "3", "text_output": "b"}
    assert json.loads(codec().answer(b'"b"', "")) == answer
    assert json.loads(codec().answer(b'"b"', "7")) == answer | {"id": "7"}
    assert codec().decode(dumps({"text_input": "", "id": "7"}))[1] == "7"


def test_an_error_behind_the_first_piece_is_an_event_as_any_other() -> None:
    assert generate_error(ModelError("gone")) == b'data: {"error":"gone"}\n\n'


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"text_input":1}', b'{"text_input":"a","parameters":1}'])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a generate request"):
        codec().decode(body)


@given(json_values | st.dictionaries(st.sampled_from(["text_input", "id", "parameters", "times"]), json_values))
def test_any_json_is_read_or_refused(value: Any) -> None:
    try:
        given, _ = codec().decode(dumps(value))
    except InvalidRequest:
        return
    assert json.loads(given)["prompt"] == value["text_input"]
