"""What a request is and what is none: every form of framing, every trick with it, and how the refusal reads."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from in_memory import Client, chunked, keep, request

from setpoint.node.http import Exchange


def the_request(*segments: bytes) -> Exchange:
    client = Client(keep).send(*segments)
    assert not client.transport.received
    (exchange,) = client.exchanges
    return exchange


def test_the_parts_of_a_request() -> None:
    exchange = the_request(request("/a%20b?x=1&y=?", b"body", "X-Thing: Some Value"))
    assert exchange.method == b"POST"
    assert exchange.path == b"/a%20b"
    assert exchange.query == b"x=1&y=?"
    assert exchange.headers == {b"host": b"test", b"x-thing": b"Some Value", b"content-length": b"4"}
    assert exchange.body == b"body"


def test_chunks_are_joined_and_trailers_dropped() -> None:
    exchange = the_request(chunked("/", b"a", b"bc", b"d" * 5000, b"e", b"f", trailers=b"x-sum: 1\r\n"))
    assert exchange.body == b"abc" + b"d" * 5000 + b"ef"
    assert b"x-sum" not in exchange.headers


def test_chunk_extensions_are_ignored() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert the_request(head + b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n').body == b"abc"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://test/v2/models?a=b", b"/v2/models", b"a=b"),
        ("http://test", b"/", b""),
        ("http://test?a=/b", b"/", b"a=/b"),
        ("HTTP://test:80/x", b"/x", b""),
        ("*", b"*", b""),
    ],
)
def test_targets_that_are_no_paths(target: str, path: bytes, query: bytes) -> None:
    exchange = the_request(request(target))
    assert (exchange.path, exchange.query) == (path, query)


def test_connect_is_answered_and_closed_without_reading_on() -> None:
    client = Client(lambda exchange: exchange.respond(404, b'{"error":"no"}'))
    client.send(b"CONNECT other:80 HTTP/1.1\r\nhost: other:80\r\n\r\n" + request("/behind"))
    assert client.statuses() == [404]
    assert client.responses()[0].closes
    assert client.transport.lost


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")


def test_an_offer_of_another_protocol_is_ignored_and_its_body_is_read() -> None:
    """Java's HttpClient offers h2c with the first request of each connection, POST included."""
    client = Client(keep).send(request("/a?b", b"body", *H2C) + request("/c"))
    first, second = client.exchanges
    assert (first.path, first.query, first.body, first.keep_alive) == (b"/a", b"b", b"body", True)
    assert second.path == b"/c"


def test_offers_in_a_row_chunked_and_split() -> None:
    head = "\r\n".join(["POST /a HTTP/1.1", "host: x", *H2C, "transfer-encoding: chunked", "", ""]).encode()
    client = Client(keep).send(
        head + b"3\r\nab", b"c\r\n0\r\n\r\n" + request("/b", None, *H2C) + request("/c", b"d", *H2C)
    )
    assert [(exchange.path, exchange.body) for exchange in client.exchanges] == [
        (b"/a", b"abc"),
        (b"/b", b""),
        (b"/c", b"d"),
    ]


def test_an_offer_that_also_says_close_is_closed() -> None:
    client = Client().send(request("/a", None, "Connection: close, upgrade", "Upgrade: websocket"))
    assert client.statuses() == [200]
    assert client.transport.lost


def test_an_offer_followed_by_garbage() -> None:
    client = Client().send(request("/a", None, *H2C) + b"\x00\x01\x02 garbage")
    assert client.statuses() == [200, 400]
    assert client.closed


def test_a_client_that_asks_is_told_to_continue() -> None:
    client = Client().send(
        request("/a", b"", "Expect: 100-continue").replace(b"content-length: 0", b"content-length: 2")
    )
    assert bytes(client.transport.received) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ok")
    (response,) = client.responses()
    assert response.interim == [100]


def test_a_body_beyond_the_limit_is_refused_instead_of_continued() -> None:
    head = request("/a", b"", "expect: 100-continue").replace(b"content-length: 0", b"content-length: 11")
    client = Client(body_limit_bytes=10).send(head)
    (response,) = client.responses()
    assert (response.status, response.interim) == (413, [])
    assert client.closed


def test_http_10_is_not_told_to_continue() -> None:
    client = Client().send(request("/a", b"ok", "expect: 100-continue", version="1.0"))
    assert client.responses()[0].interim == []


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
MALFORMED = {
    "two lengths": HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "two equal lengths": HEAD + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "a list of lengths": HEAD + b"content-length: 1, 1\r\n\r\na",
    "length and chunked": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "a signed length": HEAD + b"content-length: +1\r\n\r\na",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n",
    "a hexadecimal length": HEAD + b"content-length: 0x1\r\n\r\na",
    "an empty length": HEAD + b"content-length:\r\n\r\n",
    "a length of 26 digits": HEAD + b"content-length: 99999999999999999999999999\r\n\r\n",
    "chunked but not last": HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "an unknown coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": HEAD + b"x: a\r\n b\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\nhost: x\n\n",
    "a bare carriage return": b"GET / HTTP/1.1\rhost: x\r\r",
    "a NUL in a name": HEAD + b"x\x00: a\r\n\r\n",
    "a NUL in a value": HEAD + b"x: a\x00\r\n\r\n",
    "a header without a name": HEAD + b": a\r\n\r\n",
    "a header without a colon": HEAD + b"abc\r\n\r\n",
    "a chunk of negative size": HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n",
    "a chunk of huge size": HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk longer than it says": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "chunks with bare line feeds": HEAD + b"transfer-encoding: chunked\r\n\r\n1\na\n0\n\n",
    "an unknown method": b"BREW / HTTP/1.1\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\n\r\n",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "a path with a NUL": b"GET /\x00 HTTP/1.1\r\n\r\n",
    "a path with raw UTF-8": "GET /ä HTTP/1.1\r\n\r\n".encode(),
    "a path with a space": b"GET /a b HTTP/1.1\r\n\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "HTTP/2's preface of another version": b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
    "HTTP/2's preface with a path": b"PRI /a HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2's preface with a header": b"PRI * HTTP/2.0\r\nx: y\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03",
    "a response": b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused_once_and_closed(name: str) -> None:
    client = Client().send(MALFORMED[name])
    client.send(request("/behind"), MALFORMED[name])
    assert client.statuses() == [400]
    assert client.responses()[0].closes
    assert client.closed
    assert not client.exchanges
    assert client.server.in_flight == 0


def test_codings_that_nobody_would_decode_are_refused() -> None:
    client = Client().send(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    assert client.statuses() == [415]
    assert client.closed


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    client = Client(keep).send(request("/0") + request("/1") + b"garbage\r\n\r\n")
    assert not client.transport.received
    for exchange in reversed(client.exchanges):
        exchange.respond(200, b"1")
    assert client.statuses() == [200, 200, 400]
    assert client.closed


def test_a_refusal_waits_for_the_backlog_before_it() -> None:
    """It once overtook requests that were accepted, and closed the connection before they were answered."""
    client = Client(keep, pipeline_limit=2).send(request() * 5 + b"garbage\r\n\r\n")
    for index in range(5):
        client.exchanges[index].respond(200, b"1")
        client.run()
    assert client.statuses() == [200] * 5 + [400]
    assert client.server.in_flight == 0


def test_a_refused_client_may_finish_sending() -> None:
    """Closing over unread bytes resets the connection, and the client never reads why."""
    client = Client(body_limit_bytes=10).send(request("/", b"x" * 1000))
    assert client.statuses() == [413]
    assert client.transport.half_closed
    assert not client.transport.closing
    client.send(b"x" * 100_000)
    client.wait(0.5)
    assert not client.transport.closing
    client.wait(1.0)
    assert client.transport.lost


def test_a_refused_client_that_leaves_is_gone_at_once() -> None:
    client = Client().send(b"garbage\r\n\r\n").leave()
    assert client.transport.lost


METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]
bodies = st.binary(max_size=3000)
paths = st.text("abcXYZ019-_.~%/", max_size=20).map(lambda text: f"/{text}")


@st.composite
def exchanges_and_bytes(draw: st.DrawFn) -> tuple[list[tuple[bytes, bytes, bytes]], bytes]:
    expected, stream = [], b""
    for _ in range(draw(st.integers(1, 5))):
        path, body, method = draw(paths), draw(bodies), draw(st.sampled_from(METHODS))
        if draw(st.booleans()):
            cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
            pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
            message = chunked(path, *filter(None, pieces)).replace(b"POST", method, 1)
        else:
            offer = H2C if draw(st.booleans()) else ()
            message = request(path, body, "x-filler: " + "f" * draw(st.integers(0, 50)), *offer, method=method.decode())
        expected.append((method, path.encode(), body))
        stream += message
    return expected, stream


@given(exchanges_and_bytes(), st.data())
@settings(max_examples=300)
def test_packets_may_be_cut_anywhere(
    drawn: tuple[list[tuple[bytes, bytes, bytes]], bytes], data: st.DataObject
) -> None:
    expected, stream = drawn
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    client = Client().send(*segments)
    assert [(e.method, e.path, e.body) for e in client.exchanges] == expected
    assert client.statuses([method for method, _, _ in expected]) == [200] * len(expected)


@given(exchanges_and_bytes())
@settings(max_examples=30)
def test_packets_of_one_byte(drawn: tuple[list[tuple[bytes, bytes, bytes]], bytes]) -> None:
    expected, stream = drawn
    client = Client().send(*[stream[index : index + 1] for index in range(len(stream))])
    assert [(e.method, e.path, e.body) for e in client.exchanges] == expected


@given(st.binary(min_size=1, max_size=400))
@settings(max_examples=1000)
@example(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\r\n" * 3 + b"\xff")
def test_garbage_is_answered_at_most_once_and_ends_the_connection(garbage: bytes) -> None:
    assume(not garbage.startswith(b"PRI * HTTP/2.0"))  # test_http2_abuse.py has garbage behind it
    client = Client().send(garbage)
    statuses = client.statuses()
    assert statuses[:-1] == [200] * len(statuses[:-1])
    assert client.closed or 400 not in statuses
    assert not client.bugs
    client.vanish()
    assert client.server.in_flight == 0
    assert client.server.connections == 0


@given(exchanges_and_bytes(), st.data())
@settings(max_examples=500)
def test_damaged_requests_never_break_the_answers(drawn: tuple[object, bytes], data: st.DataObject) -> None:
    """A byte replaced, removed or doubled anywhere: good answers up to it, then at most one refusal, then silence."""
    stream = bytearray(drawn[1])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(stream) - 1))
        kind = data.draw(st.sampled_from(["replace", "remove", "double", "cut"]))
        if kind == "replace":
            stream[where] = data.draw(st.integers(0, 255))
        elif kind == "remove" and len(stream) > 1:
            del stream[where]
        elif kind == "double":
            stream[where:where] = stream[where : where + 1]
        elif where:
            del stream[where:]
    client = Client().send(bytes(stream))
    methods = [exchange.method for exchange in client.exchanges]
    refused = [status for status in client.statuses(methods) if status != 200]
    assert len(refused) <= 1
    assert not refused or client.closed
    assert all(400 <= status < 500 for status in refused)
    assert not client.bugs
    client.vanish()
    assert client.server.in_flight == 0
