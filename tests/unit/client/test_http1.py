"""HTTP for the client's side: what it writes can be read, and what it reads it reads in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.client.exchange import Address, Request
from setpoint.client.http1 import JOIN_LIMIT_BYTES, Malformed, ReplyReader, request_parts
from setpoint.client.sse import EventReader
from setpoint.core import InvalidConfiguration, ModelError

ADDRESS = Address("example", 80, "/team", tls=False)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
CLOSING = b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000, "", tls=False)),
        ("https://models.example/team/", Address("models.example", 443, "/team", tls=True)),
        ("http://[::1]:1", Address("::1", 1, "", tls=False)),
    ],
)
def test_addresses(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://a", "http://", "http://a:b", "http://a:99999", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="expected a URL such as"):
        Address.parse(url)


def test_small_requests_are_one_piece() -> None:
    (piece,) = request_parts(Request("POST", "/x", (b"ab", memoryview(b"cd")), {"a": "b"}), ADDRESS)
    assert piece == b"POST /team/x HTTP/1.1\r\nhost: example:80\r\ncontent-length: 4\r\na: b\r\n\r\nabcd"


def test_large_ones_are_not_copied() -> None:
    large = memoryview(bytes(JOIN_LIMIT_BYTES + 1))
    head, body = request_parts(Request("POST", "/x", (large,)), ADDRESS)
    assert body is large
    assert f"content-length: {len(large)}\r\n".encode() in bytes(head)


@given(st.sampled_from([PLAIN, CHUNKED, CONTINUED, TO_THE_END, CLOSING]), st.data())
def test_answers_are_read_in_any_pieces(text: bytes, data: st.DataObject) -> None:
    reader = ReplyReader()
    while text:
        assert not reader.complete
        size = data.draw(st.integers(1, len(text)))
        reader.feed(text[:size])
        text = text[size:]
    reader.end()
    assert reader.complete
    reply = reader.reply()
    assert bytes(reply.body) == b"hello"


@pytest.mark.parametrize(
    ("text", "keeps"), [(PLAIN, True), (CHUNKED, True), (CONTINUED, True), (TO_THE_END, False), (CLOSING, False)]
)
def test_whether_the_connection_can_be_used_again(text: bytes, keeps: bool) -> None:
    reader = ReplyReader()
    reader.feed(text)
    reader.end()
    assert reader.keep_alive == keeps


@pytest.mark.parametrize("text", [PLAIN[:-1], CHUNKED[:-4], b"HTTP/1.1 200 OK\r\ncont", b""])
def test_an_answer_that_ends_early_is_not_complete(text: bytes) -> None:
    reader = ReplyReader()
    if text:
        reader.feed(text)
    assert not reader.end()
    assert not reader.keep_alive


def test_what_is_no_http_is_said() -> None:
    with pytest.raises(Malformed):
        ReplyReader().feed(b"SSH-2.0-OpenSSH\r\n")


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)), st.data())
def test_events_are_put_together_from_any_pieces(events: list[str], data: st.DataObject) -> None:
    text = b"".join(b"data: %b\n\n" % event.encode() for event in events)
    reader = EventReader()
    found = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += reader.feed(text[:size])
        text = text[size:]
    assert [event.decode() for event in found] == events


def test_an_event_of_several_lines_and_comments_between() -> None:
    assert EventReader().feed(b": ping\n\ndata: a\ndata:b\r\n\r\nid: 1\n\n") == [b"a\nb"]


@pytest.mark.parametrize("data", [b'{"error":"broke"}', b"broke"])
def test_an_error_event_ends_the_stream(data: bytes) -> None:
    with pytest.raises(ModelError, match="broke"):
        EventReader().feed(b"event: error\ndata: " + data + b"\n\n")
