"""Large bodies are read past the parser; nothing else of what a connection promises changes with that."""

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import Client, chunked, keep, request

from setpoint.node.http import reading
from setpoint.node.http.straight_body import LARGE_BYTES, LARGEST_BYTES, StraightBody

BODY = bytes(range(251)) * 1200
HEAD_AND_SOME = 1000


def coming(*headers: str, client: Client | None = None, **limits: float) -> tuple[Client, bytes]:
    """A client that has sent the beginning of a large body, and the rest of it."""
    message = request("/large", BODY, *headers)
    client = client or Client(keep, **limits)
    client.send(message[:HEAD_AND_SOME])
    return client, message[HEAD_AND_SOME:]


def straight(client: Client) -> bool:
    return isinstance(client.transport.connection, StraightBody)


def test_a_large_body_is_read_past_the_parser_and_what_follows_by_it() -> None:
    client, rest = coming()
    assert straight(client)
    client.send(rest[:100_000], rest[100_000:] + request("/next"))
    assert not straight(client)
    assert [exchange.path for exchange in client.exchanges] == [b"/large", b"/next"]
    assert client.exchanges[0].body == BODY
    assert type(client.exchanges[0].body) is bytes


@given(st.data())
@settings(max_examples=60)
def test_however_requests_are_cut_into_packets_their_bodies_are_the_same(data: st.DataObject) -> None:
    bodies = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
    stream = b"".join(
        chunked("/", body) if body and data.draw(st.booleans()) else request("/", body) for body in bodies
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    with patch.object(reading, "LARGE_BYTES", data.draw(st.integers(1, 20))):
        client = Client()
        client.send(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert [exchange.body for exchange in client.exchanges] == bodies
    assert client.statuses() == [200] * len(bodies)
    assert client.server.held_body_bytes == 0
    assert not client.bugs


def test_what_comes_behind_a_request_that_closes_does_not_count() -> None:
    client, rest = coming("connection: close")
    client.send(rest + request("/smuggled"))
    assert [exchange.path for exchange in client.exchanges] == [b"/large"]
    client.exchanges[0].respond(200, b"1")
    client.run()
    assert client.statuses() == [200]
    assert client.closed


def test_its_memory_counts_as_soon_as_it_is_taken_until_the_answer() -> None:
    client, rest = coming()
    assert client.server.held_body_bytes == len(BODY)
    client.send(rest)
    assert client.server.held_body_bytes == len(BODY)
    client.exchanges[0].respond(200, b"1")
    assert client.server.held_body_bytes == 0


def test_memory_that_is_only_declared_takes_half_of_what_there_is_at_most() -> None:
    first, rest = coming(bodies_limit_bytes=int(3.5 * len(BODY)))
    second, _ = coming(client=Client(keep, server=first.server))
    assert straight(first)
    assert not straight(second)  # it comes piece by piece, and takes what it has sent
    assert len(BODY) < first.server.held_body_bytes < len(BODY) + HEAD_AND_SOME
    first.send(rest)
    second.send(rest)
    assert [exchange.body == BODY for exchange in first.exchanges] == [True, True]  # the server is the first's


@pytest.mark.parametrize("declared", [LARGE_BYTES - 1, LARGEST_BYTES + 1])
def test_short_and_very_long_bodies_come_through_the_parser(declared: int) -> None:
    client = Client(keep).send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % declared)
    assert not straight(client)
    assert client.server.held_body_bytes == 0


def test_one_that_stops_coming_is_refused_and_its_memory_given_back() -> None:
    client, rest = coming(body_timeout_s=20)
    client.send(rest[:50_000])
    client.wait(1).wait(6)  # half a minute of nothing would be too slow even before the time limit
    client.wait(15)
    assert client.statuses() == [408]
    assert client.server.held_body_bytes == 0
    assert not straight(client)
    client.send(rest[50_000:])  # what still comes is dropped
    assert not client.exchanges


@pytest.mark.parametrize("end", ["leave", "vanish"])
def test_a_client_that_leaves_halfway_gives_its_memory_back(end: str) -> None:
    client, _ = coming()
    getattr(client, end)()
    assert client.server.held_body_bytes == 0
    assert client.transport.lost
    assert not client.exchanges


def test_a_client_that_does_not_read_its_answers_is_not_read_from_meanwhile() -> None:
    client = Client(lambda exchange: exchange.respond(200, b"x" * 200_000), client_reads=False)
    message = request("/large", BODY)
    client.send(request("/first") + message[:HEAD_AND_SOME], message[HEAD_AND_SOME:])
    assert len(client.exchanges) == 1
    client.transport.client_reads_now()
    client.run()
    assert [exchange.path for exchange in client.exchanges] == [b"/first", b"/large"]
    assert client.exchanges[1].body == BODY
