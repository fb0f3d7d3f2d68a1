"""Forms: every field that a client sent is found with its very bytes; whatever else comes is refused in a sentence."""

import contextlib
import re

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from setpoint.core import (
    Endpoint,
    InvalidRequest,
    Lineage,
    ModelManifest,
    Parameter,
    RequestError,
    RequestTooLarge,
    Variant,
    unpack_form,
)
from setpoint.wire import file_arguments, openapi_document, read_form
from setpoint.wire.multipart import HEADER_LIMIT_BYTES, PARTS_LIMIT, boundary_of, parts_of

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"\\'), min_size=1, max_size=20)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\r\n", b"--", b"\r\n--", b"--x", b"\r", b"\n", b"x", b"\0"]), max_size=8).map(b"".join),
)


HEADERS = b'Content-Disposition: form-data; name="%b"; filename="a;b.png"\r\nContent-Type: image/png\r\n\r\n'


def written(fields: list[tuple[str, bytes]], *, before: bytes = b"", behind: bytes = b"") -> bytes:
    parts = [b"--bound\r\n" + HEADERS % name.encode() + content + b"\r\n" for name, content in fields]
    return before + b"".join(parts) + b"--bound--\r\n" + behind


def read(body: bytes, boundary: bytes = b"bound") -> list[tuple[str, bytes]]:
    return [(part.name, bytes(part.data)) for part in parts_of(body, boundary)]


@given(fields=st.lists(st.tuples(NAMES, CONTENTS), max_size=6), before=st.sampled_from([b"", b"hello\r\n", b"\r\n"]))
@example(fields=[("a", b"")], before=b"")
@example(fields=[("a", b"\r\n"), ("a", b"--bound")], before=b"")
def test_what_was_written_is_read(fields: list[tuple[str, bytes]], before: bytes) -> None:
    contents = [content for _, content in fields]
    if any(b"\r\n--bound" in b"\r\n" + content for content in contents):  # no writer may choose such a boundary
        contents = [content.replace(b"--bound", b"") for content in contents]
        fields = [(name, content) for (name, _), content in zip(fields, contents, strict=True)]
    assert read(written(fields, before=before, behind=b"what follows is nobody's")) == fields


@given(
    files=st.lists(st.tuples(st.sampled_from(["a", "images", "ü"]), st.binary(max_size=80)), min_size=1, max_size=4),
    data=st.dictionaries(st.sampled_from(["b", "times"]), st.text(max_size=20), max_size=2),
)
def test_what_httpx_writes_is_read(files: list[tuple[str, bytes]], data: dict[str, str]) -> None:
    named = [(name, ("f.bin", content, "application/x")) for name, content in files]
    request = httpx.Request("POST", "http://x", files=named, data=data)
    boundary = boundary_of(request.headers["content-type"].encode())
    found = read(request.read(), boundary)
    assert sorted(found) == sorted([*files, *((name, text.encode()) for name, text in data.items())])


@given(body=st.binary(max_size=300))
def test_noise_is_the_clients_mistake(body: bytes) -> None:
    for tried in (body, b"--bound" + body, b"--bound\r\n" + body, written([("a", b"b")])[:-12] + body):
        with contextlib.suppress(RequestError):
            read(tried)


@given(st.data())
def test_half_a_form_is_never_a_whole_one(data: st.DataObject) -> None:
    whole = written([("a", b"first"), ("b", b"second")])
    kept = data.draw(st.integers(0, len(whole) - len(b"--\r\n") - 1))
    with pytest.raises(InvalidRequest):
        read(whole[:kept])


HEAD = b'--bound\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the form has no part: its body holds no line --bound"),
        (b'{"a": 1}', "the form has no part"),
        (b"--boundary\r\n", "the form's boundary is followed by 'ary\\r\\n' behind part 0"),
        (HEAD + b"x", "part 1 of the form ('a') has no end: the body was cut short"),
        (HEAD + b"x\r\n--boundless", "the form's boundary is followed by 'less' behind part 1"),
        (b"--bound\r\n\r\nx\r\n--bound--", "part 1 of the form has no Content-Disposition header"),
        (b"--bound\r\nContent-Type: a/b\r\n\r\nx\r\n--bound--", "part 1 of the form has no Content-Disposition header"),
        (b"--bound\r\nContent-Disposition form-data\r\n\r\nx\r\n--bound--", "has a header that is none: 'Content-Disp"),
        (b"--bound\r\nContent-Disposition: inline; name=a\r\n\r\n\r\n--bound--", "is 'inline'; expected Content"),
        (b"--bound\r\nContent-Disposition: form-data\r\n\r\n\r\n--bound--", "part 1 of the form has no name"),
        (b'--bound\r\nContent-Disposition: form-data; name="a\r\n\r\n\r\n--bound--', "cannot be read from"),
        (b'--bound\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n\r\n--bound--', "has two names"),
        (b'--bound\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\r\n--bound--', "a name that is not UTF-8"),
        (HEAD[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--bound--", "is in 'base64'; send the bytes"),
        (HEAD[:-2] + HEAD[9:], "has two Content-Disposition headers"),
        (b"--bound\r\nContent-Disp", "part 1 of the form ends within its headers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        read(body)


def test_parts_and_headers_have_limits() -> None:
    assert len(read(written([("a", b"")] * PARTS_LIMIT))) == PARTS_LIMIT
    with pytest.raises(RequestTooLarge, match="more than 1024 parts"):
        read(written([("a", b"")] * (PARTS_LIMIT + 1)))
    with pytest.raises(RequestTooLarge, match="headers of more than 8192 bytes") as caught:
        read(HEAD[:-2] + b"X-Long: " + b"y" * HEADER_LIMIT_BYTES + b"\r\n\r\n\r\n--bound--")
    assert caught.value.header
    with pytest.raises(RequestTooLarge, match="more than 16 headers"):
        read(HEAD[:-2] + b"X-Many: y\r\n" * 16 + b"\r\n\r\n--bound--")
    with pytest.raises(RequestTooLarge, match="a name of more than 200 characters"):
        read(written([("a" * 201, b"")]))


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        (b"multipart/form-data;boundary=----WebKitFormBoundaryE19zN ; x=y", b"----WebKitFormBoundaryE19zN"),
    ],
)  # fmt: skip
def test_the_boundary_is_read_from_the_header(header: bytes, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header", [b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=" + b"a" * 71,
               b'multipart/form-data; boundary="a\xff"', b'multipart/form-data; boundary="a "']
)  # fmt: skip
def test_a_boundary_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        boundary_of(header)


FILE = {"type": "string", "contentEncoding": "base64"}
MANY = {"type": "array", "items": FILE}


def endpoint(batch_rows: int = 0, **schemas: dict) -> Endpoint:
    return Endpoint("look", tuple(Parameter(name, schema) for name, schema in schemas.items()), {}, batch_rows)


def test_files_are_told_by_their_schema() -> None:
    asked = endpoint(
        a=FILE, b=MANY, c={"anyOf": [FILE, {"type": "null"}]}, d={"type": "string"}, e={"type": "array", "items": MANY}
    )
    assert file_arguments(asked) == {"a", "b", "c"}


def test_rows_are_counted_and_unknown_fields_refused() -> None:
    header = b"multipart/form-data; boundary=bound"
    batched = endpoint(8, images=MANY, words={"type": "array", "items": {"type": "string"}})
    body = written([("images", b"1"), ("words", b"x"), ("images", b"2"), ("words", b"y")])
    packed, rows = read_form(batched, header, body)
    assert (unpack_form(packed), rows) == ({"images": [b"1", b"2"], "words": [b"x", b"y"]}, 2)
    with pytest.raises(InvalidRequest, match="different numbers of rows, one part each: 'images' has 2, 'words' has 1"):
        read_form(batched, header, written([("images", b"1"), ("words", b"x"), ("images", b"2")]))
    with pytest.raises(InvalidRequest, match="unknown field 'image' in the form; expected images, words"):
        read_form(batched, header, written([("image", b"1")]))


def test_a_form_is_described_by_its_files_also_where_they_may_be_absent() -> None:
    asked = endpoint(many={"anyOf": [MANY, {"type": "null"}], "title": "Many"}, one={"anyOf": [FILE, {"type": "null"}]})
    manifest = ModelManifest((asked,), (Variant("python", "python", "model.py"),), Lineage("python", "sha256:0"))
    operation = openapi_document([("m", manifest)], "1")["paths"]["/models/m/look"]["post"]
    file = {"contentMediaType": "application/octet-stream"}
    many = {"type": "array", "items": file, "title": "Many"}
    described = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert described == {"many": many, "one": file}
