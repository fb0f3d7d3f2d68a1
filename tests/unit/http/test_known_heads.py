"""Heads that were read before are not read again: that must show in nothing but the time it takes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from in_memory import Client

from setpoint.node.http import Exchange
from setpoint.node.http.known_heads import MISSES_ALLOWED

POST = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
REQUESTS = (
    POST + b"one",
    POST + b"two",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /a HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
)
PIECES = (
    *REQUESTS,
    POST,
    b"one",
    b"POST /a?b=c HT",
    b"TP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none",
    b"\r\n",
    b"abc",
)
SEGMENTS = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(b"".join), max_size=8)


def read(segments: list[bytes], *, known: bool) -> tuple[list[object], bool, int]:
    """What the handler was given, whether the connection closed, and how many answers there were."""
    client = Client()
    if not known:
        client.connection._familiar = 0
    for segment in segments:
        client.send(segment)
    seen: list[object] = [
        (each.method, each.path, each.query, each.headers, each.body, each.keep_alive, each.http_10)
        for each in client.exchanges
    ]
    assert not client.bugs
    return seen, client.transport.closing, bytes(client.transport.received).count(b"HTTP/1.1 ")


@given(SEGMENTS)
@example([POST + b"one", POST + b"two", POST, b"tri"])
@example([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] * 2)
@example([POST[:20], POST[20:] + b"one", b"POS" + b"one"])
def test_reads_what_the_parser_reads(segments: list[bytes]) -> None:
    assert read(segments, known=True) == read(segments, known=False)


def test_a_known_head_is_not_parsed_again() -> None:
    client = Client().send(POST + b"one")
    parser, client.connection._parser = client.connection._parser, None  # type: ignore[assignment]  # nobody asks it
    client.send(POST + b"two", POST + b"tri")
    client.connection._parser = parser
    client.send(POST + b"fo", b"ur"[:1])
    assert [exchange.body for exchange in client.exchanges] == [b"one", b"two", b"tri", b"fou"]


def test_connections_of_a_server_share_what_is_known() -> None:
    first = Client().send(POST + b"one")
    second = Client(server=first.server)
    second.connection._parser = None  # type: ignore[assignment]
    second.send(POST + b"two")
    assert [exchange.body for exchange in first.exchanges] == [b"one", b"two"]


def test_what_a_handler_does_to_headers_stays_with_its_request() -> None:
    def take_out(exchange: Exchange) -> None:
        exchange.headers.pop(b"host")
        exchange.respond(200, b"")

    client = Client(take_out).send(*[POST + b"one"] * 3)
    assert not client.bugs
    assert len(client.exchanges) == 3


def test_a_client_with_a_new_head_each_time_is_soon_not_looked_for() -> None:
    client = Client()
    for number in range(2 * MISSES_ALLOWED):
        client.send(b"GET / HTTP/1.1\r\nx-request-id: %d\r\n\r\n" % number)
    assert len(client.exchanges) == 2 * MISSES_ALLOWED
    assert len(client.server.known_heads) == MISSES_ALLOWED


def test_no_more_heads_are_kept_than_may_be() -> None:
    server = Client().server
    for number in range(600):
        Client(server=server).send(b"GET / HTTP/1.1\r\nx-request-id: %d\r\n\r\n" % number)
        assert 0 < len(server.known_heads) <= 256
