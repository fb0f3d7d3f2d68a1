"""Whatever a client sends: the arguments as annotated, or one ``InvalidRequest``; nothing else comes out."""

import json
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import setpoint as sp
from setpoint.authoring import contracts, model_from_function
from setpoint.core import InvalidRequest
from setpoint.engines.python_request import RequestReader


class Part(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    weight: float = 1.0


def everything(
    text: str,
    number: int,
    rows: sp.Tensor[np.float32, None, 2],
    data: bytes,
    part: Part,
    picture: sp.Image | None = None,
    style: Literal["a", "b"] = "a",
    array: np.ndarray[Any, Any] | None = None,
    words: list[str] = ["x"],  # noqa: B006  # a mutable default is what is tested
) -> None: ...


@sp.endpoint(batch=4)
def batched(texts: list[str], ids: list[int]) -> list[int]: ...  # type: ignore[empty-body]


def raw_file(file: bytes, top: int = 3) -> int: ...  # type: ignore[empty-body]


@sp.endpoint(batch=4)
def raw_images(images: list[sp.Image]) -> list[int]: ...  # type: ignore[empty-body]


def nothing() -> int: ...  # type: ignore[empty-body]


def reader_of(function: Callable[..., Any]) -> RequestReader:
    return RequestReader(contracts(model_from_function(function))[0])


EVERYTHING = reader_of(everything)
VALID = {"text": "t", "number": 1, "rows": [[1, 2]], "data": "YQ==", "part": {"name": "n"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("YQ=="),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def attempt(reader: RequestReader, body: bytes, raw: bool) -> tuple[Any, ...] | None:
    try:
        return reader.arguments(body, raw)
    except InvalidRequest as error:
        refusal = str(error)
    assert 0 < len(refusal) <= 400
    return None


@given(body=st.binary(max_size=200), raw=st.booleans())
def test_any_bytes_give_arguments_or_invalid_request(body: bytes, raw: bool) -> None:
    for reader in (EVERYTHING, reader_of(batched), reader_of(raw_file), reader_of(raw_images)):
        attempt(reader, body, raw)


@given(changes=st.dictionaries(st.sampled_from([*VALID, "picture", "style", "array", "words", "txt"]), JSON))
def test_any_json_object_gives_arguments_or_invalid_request(changes: dict[str, Any]) -> None:
    arguments = attempt(EVERYTHING, json.dumps({**VALID, **changes}).encode(), False)
    if arguments is not None:
        assert isinstance(arguments[0], str)
        assert arguments[2].dtype == np.float32
        assert arguments[2].shape[1] == 2
        assert isinstance(arguments[3], bytes)


@given(cut=st.integers(0, 80), junk=st.binary(max_size=5))
def test_a_damaged_body_gives_arguments_or_invalid_request(cut: int, junk: bytes) -> None:
    body = json.dumps(VALID).encode()
    attempt(EVERYTHING, body[:cut] + junk + body[cut:], False)
    attempt(EVERYTHING, body[:cut] + junk, False)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"text":' * 100_000, b'{"rows":' + b"[" * 5000])
def test_deep_nesting_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        EVERYTHING.arguments(body)


def test_arguments_come_in_order_with_defaults() -> None:
    arguments = EVERYTHING.arguments(json.dumps(VALID).encode())
    assert arguments[:2] == ("t", 1)
    assert arguments[2].tolist() == [[1.0, 2.0]]
    assert arguments[3:] == (b"a", Part("n"), None, "a", None, ["x"])


def test_views_are_read_and_not_kept() -> None:
    body = bytearray(json.dumps(VALID).encode())
    arguments = EVERYTHING.arguments(memoryview(body))
    (data, top) = reader_of(raw_file).arguments(memoryview(body)[:4], raw=True)
    body[:] = bytes(len(body))
    body.clear()  # a view that was kept would make this fail
    assert arguments[0] == "t"
    assert (data, top) == (b'{"te', 3)


def test_a_raw_body_is_the_bytes_argument_or_one_row_of_it() -> None:
    assert reader_of(raw_file).arguments(b"\x00\xff", raw=True) == (b"\x00\xff", 3)
    png = b"\x89PNG\r\n\x1a\nrest"
    ((image,),) = reader_of(raw_images).arguments(png, raw=True)
    assert image.data == png
    with pytest.raises(InvalidRequest, match="JPEG"):
        reader_of(raw_images).arguments(b"abc", raw=True)
    with pytest.raises(InvalidRequest, match="batched takes a JSON object with texts, ids, not raw bytes"):
        reader_of(batched).arguments(b"abc", raw=True)


def test_an_endpoint_without_arguments_takes_an_empty_body() -> None:
    assert reader_of(nothing).arguments(b"") == ()
    assert reader_of(nothing).arguments(b"{}") == ()
    with pytest.raises(InvalidRequest, match="unknown key 'a'; expected an empty JSON object"):
        reader_of(nothing).arguments(b'{"a":1}')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": 1}, "text: expected str, got int"),
        ({"texts": "x"}, "unknown key 'texts'; did you mean 'text'?"),
        (
            {"zzz": "x"},
            "unknown key 'zzz'; expected a JSON object with text, number, rows, data, part, picture (optional)",
        ),
        ({"rows": [[1, 2], [3]]}, "rows: rows of one array have different lengths"),
        ({"rows": [[1, 2, 3]]}, "rows: expected shape [-1, 2], got [1, 3]"),
        ({"rows": [[1, "2"]]}, "rows: expected float32 elements, got str at [0][1]"),
        ({"part": {}}, "missing 'name' in part"),
        ({"part": {"name": "n", "size": 2}}, "unknown key 'size' in part"),
        ({"part": {"name": "n", "weight": "2"}}, "part.weight: expected float, got str"),
        ({"style": "c"}, "style: Invalid enum value 'c'"),
        ({"data": "?"}, "data: Invalid base64 encoded string"),
        ({"words": ["a", 2]}, "words[1]: expected str, got int"),
    ],
)
def test_the_refusal_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EVERYTHING.arguments(json.dumps({**VALID, **changes}).encode())
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "missing 'text': expected a JSON object with text"),
        (b"[1]", "the JSON body: expected a JSON object with text"),
        (b"{", "the JSON body cannot be read: Input data was truncated"),
        (b'{"text":"\xff"}', "the JSON body cannot be read: 'utf-8' codec"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EVERYTHING.arguments(body)
    assert str(caught.value).startswith(message)


def test_a_long_wrong_key_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidRequest) as caught:
        EVERYTHING.arguments(json.dumps({"k" * 10_000: 1}).encode())
    assert len(str(caught.value)) <= 300
