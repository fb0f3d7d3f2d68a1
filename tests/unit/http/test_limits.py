"""Every limit has a number, and what is beyond it is refused without being kept."""

import pytest
from in_memory import Client, chunked, keep, request

from setpoint.core import InvalidRequest, Limits
from setpoint.node.http import Exchange, HttpServer

LIMIT = 1000


def test_headers_at_the_limit_are_read() -> None:
    client = Client(header_limit_bytes=LIMIT).send(request("/", None, "x: " + "a" * (LIMIT - 100)))
    assert client.statuses() == [200]


@pytest.mark.parametrize(
    "head",
    [
        request("/", None, "x: " + "a" * LIMIT),
        request("/" + "a" * LIMIT),
        request("/?" + "a" * LIMIT),
        request("/", None, *[f"x-{index}: {index}" for index in range(LIMIT // 5)]),
    ],
    ids=["one long header", "a long path", "a long query", "many headers"],
)
@pytest.mark.parametrize("packet_bytes", [10_000, 100, 1])
def test_headers_beyond_the_limit_are_refused(head: bytes, packet_bytes: int) -> None:
    client = Client(header_limit_bytes=LIMIT)
    client.send(*[head[start : start + packet_bytes] for start in range(0, len(head), packet_bytes)])
    assert client.statuses() == [431]
    assert client.closed
    assert not client.exchanges


@pytest.mark.parametrize("name", ["x-{}", "x"], ids=["names of their own", "one name"])
def test_headers_have_a_number(name: str) -> None:
    def headers(count: int) -> list[str]:
        return [f"{name.format(index)}: v" for index in range(count - 1)]  # and host

    client = Client(header_count_limit=20)
    client.send(request("/a", None, *headers(20)) * 10)
    assert client.statuses() == [200] * 10
    client.send(request("/b", None, *headers(21)))
    assert client.statuses()[10:] == [431]
    assert "20" in client.responses()[10].json["error"]
    assert client.closed


def test_all_bodies_being_read_have_a_limit_together() -> None:
    first = Client(bodies_limit_bytes=3 * LIMIT)
    begun = request("/", b"x" * 2 * LIMIT)
    second, third = (Client(server=first.server) for _ in range(2))
    for client in (first, second):
        client.send(begun[:-LIMIT])
    third.send(begun[: -LIMIT + 1])
    assert [client.statuses() for client in (first, second, third)] == [[], [], [503]]
    assert int(third.responses()[0].headers[b"retry-after"]) >= 1
    second.vanish()
    first.send(begun[-LIMIT:])
    assert first.statuses() == [200]
    assert first.server.held_body_bytes == 0


@pytest.mark.parametrize("end", ["answer", "stream", "leave", "vanish in the backlog"])
def test_a_body_counts_until_it_is_answered_or_its_client_left(end: str) -> None:
    client = Client(keep, pipeline_limit=1)
    message = request("/", b"x" * 2 * LIMIT)
    if end == "vanish in the backlog":
        client.send(request() + message[:LIMIT], message[LIMIT:])
        assert len(client.exchanges) == 1
    else:
        client.send(message[:LIMIT], message[LIMIT:])
    assert LIMIT / 2 < client.server.held_body_bytes <= 2 * LIMIT
    if end == "answer":
        client.exchanges[0].respond(200, b"1")
    elif end == "stream":
        client.exchanges[0].reserve_stream()
        client.exchanges[0].begin_stream(b"text/plain")
        client.exchanges[0].end_stream()
    else:
        client.vanish()
    assert client.server.held_body_bytes == 0
    assert client.server.streams == 0


def test_bodies_that_come_in_one_packet_count_towards_nothing() -> None:
    client = Client(bodies_limit_bytes=LIMIT).send(request("/", b"x" * 2 * LIMIT) * 3)
    assert client.statuses() == [200] * 3


def test_a_body_that_is_refused_is_let_go() -> None:
    message = chunked("/", b"x" * 600, b"x" * 600)
    client = Client(body_limit_bytes=LIMIT).send(message[:500])
    assert client.server.held_body_bytes > 0
    client.send(message[500:])
    assert client.statuses() == [413]
    assert client.server.held_body_bytes == 0


def test_a_head_without_end_is_refused_before_its_end() -> None:
    client = Client(header_limit_bytes=LIMIT).send(b"GET / HTTP/1.1\r\nx: ")
    sent = 0
    while not client.closed:
        client.send(b"a" * 100)
        sent += 100
        assert sent <= LIMIT + 100
    assert client.statuses() == [431]


def test_a_large_body_in_the_packet_of_the_head_is_no_large_head() -> None:
    client = Client(header_limit_bytes=LIMIT).send(request("/a", b"x" * 10 * LIMIT) + request("/b"))
    assert client.statuses() == [200, 200]


@pytest.mark.parametrize("end", [b"x-sum: ", b"5;extension="], ids=["trailer", "chunk extension"])
def test_a_trailer_or_chunk_extension_without_end_is_refused(end: bytes) -> None:
    """The parser gathers a header until it is complete: without a limit, thirty seconds' worth of network."""
    start = chunked("/", b"abc")[: -len(b"\r\n" if end.startswith(b"x") else b"0\r\n\r\n")]
    client = Client(header_limit_bytes=LIMIT).send(start + end)
    sent = 0
    while not client.closed:
        client.send(b"a" * 100)
        sent += 100
        assert sent <= LIMIT + 100
    assert client.statuses() == [431]


def test_a_body_of_many_packets_is_not_mistaken_for_headers() -> None:
    client = Client(header_limit_bytes=LIMIT)
    client.send(*[chunked("/", *[b"ab"] * 5000)[start : start + 50] for start in range(0, 40_000, 50)])
    assert client.statuses() == [200]
    assert client.exchanges[0].body == b"ab" * 5000


@pytest.mark.parametrize("declared", [LIMIT + 1, 10**18])
def test_a_declared_body_beyond_the_limit_is_refused_at_once(declared: int) -> None:
    client = Client(body_limit_bytes=LIMIT).send(request("/", b"").replace(b"length: 0", b"length: %d" % declared))
    assert client.statuses() == [413]
    assert client.closed


def test_a_chunked_body_beyond_the_limit_is_refused_when_it_passes_it() -> None:
    message = chunked("/", *[b"x" * 100] * 100)
    client = Client(body_limit_bytes=LIMIT)
    for start in range(0, len(message), 100):
        client.send(message[start : start + 100])
        if client.closed:
            break
    assert start < 1300
    assert client.statuses() == [413]
    assert not client.exchanges


def test_bodies_at_the_limit_are_read() -> None:
    client = Client(body_limit_bytes=LIMIT).send(request("/", b"x" * LIMIT) + chunked("/", b"x" * (LIMIT - 1), b"x"))
    assert client.statuses() == [200, 200]


def test_a_refusal_says_which_limit() -> None:
    client = Client(body_limit_bytes=LIMIT).send(request("/", b"x" * (LIMIT + 1)))
    assert "1000 bytes" in client.responses()[0].json["error"]
    assert "--max-body" in client.responses()[0].json["error"]


def test_streams_at_once_have_a_number_whatever_becomes_of_them() -> None:
    def handle(exchange: Exchange) -> None:
        exchange.reserve_stream()
        if exchange.path == b"/refused":
            raise InvalidRequest("no")

    client = Client(handle, stream_limit=2)
    client.send(request() * 2)
    assert Client(handle, server=client.server).send(request()).statuses() == [503]
    client.exchanges[0].respond(200, b"1")
    client.exchanges[1].begin_stream(b"text/plain")
    client.exchanges[1].send(b"x")
    client.exchanges[1].end_stream()
    assert client.server.streams == 0
    assert Client(handle, server=client.server).send(request("/refused") * 5).statuses() == [400] * 5
    client.send(request() * 2).vanish()
    assert client.server.streams == 0


def test_connections_beyond_the_limit_are_told_so_and_the_others_are_served() -> None:
    first = Client(keep, connection_limit=2)
    clients = [first, *[Client(keep, server=first.server) for _ in range(3)]]
    assert [client.statuses() for client in clients] == [[], [], [503], [503]]
    assert int(clients[2].responses()[0].headers[b"retry-after"]) >= 1
    assert clients[2].closed
    for client in clients[2:]:
        client.leave()
    clients[0].leave()
    assert first.server.connections == 1
    assert Client(server=first.server).statuses() == []


def test_a_flood_of_connections_beyond_the_limit_is_dropped() -> None:
    first = Client(keep, connection_limit=1)
    flood = [Client(keep, server=first.server) for _ in range(1000)]
    assert first.server.connections < 300
    assert flood[-1].transport.lost
    first.send(request())
    assert len(first.exchanges) == 1


def test_a_limit_of_nothing_is_a_mistake() -> None:
    from setpoint.core import InvalidConfiguration

    with pytest.raises(InvalidConfiguration, match="body_limit_bytes"):
        Limits(body_limit_bytes=0)


def test_responses_are_counted_by_status() -> None:
    client = Client().send(request(), request(), b"garbage\r\n\r\n")
    server: HttpServer = client.server
    assert dict(server.responses) == {200: 2, 400: 1}
