"""Pipelined requests are answered in their order; a connection stays open while it may and closes when it must."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_memory import Client, keep, request


def answer(client: Client, index: int) -> None:
    client.exchanges[index].respond(200, b"%d" % index)
    client.run()


def test_a_request_is_answered_and_the_connection_stays_open() -> None:
    client = Client().send(request("/a"))
    (response,) = client.responses()
    assert response.json == "/a"
    assert not client.closed
    client.send(request("/b"))
    assert [response.json for response in client.responses()] == ["/a", "/b"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_pipelined_requests_are_answered_in_order(order: tuple[int, ...]) -> None:
    client = Client(keep).send(request("/0") + request("/1") + request("/2"))
    for index in order:
        answer(client, index)
    assert [response.json for response in client.responses()] == [0, 1, 2]
    assert client.server.in_flight == 0


@given(st.data())
def test_any_order_of_answers_beyond_the_pipeline_limit(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    client = Client(keep, pipeline_limit=data.draw(st.integers(1, 8)))
    client.send(b"".join(request(f"/{index}") for index in range(count)))
    assert client.server.in_flight == count
    answered: set[int] = set()
    while len(answered) < count:
        waiting = sorted(set(range(len(client.exchanges))) - answered)
        assert 1 <= len(waiting) <= client.server.limits.pipeline_limit
        index = data.draw(st.sampled_from(waiting))
        answered.add(index)
        answer(client, index)
    assert [response.json for response in client.responses()] == list(range(count))
    assert client.transport.reading
    assert client.server.in_flight == 0


def test_a_stream_holds_back_the_answers_behind_it() -> None:
    client = Client(keep).send(request("/0") + request("/1"))
    first, second = client.exchanges
    second.respond(200, b"1")
    first.begin_stream(b"text/plain")
    first.send(b"a")
    first.send(b"")
    first.send(b"b")
    assert b"content-length" not in client.transport.received
    first.end_stream()
    responses = client.responses()
    assert [response.body for response in responses] == [b"ab", b"1"]
    assert responses[0].headers[b"transfer-encoding"] == b"chunked"


def test_a_stream_whose_turn_comes_late_is_sent_whole_and_goes_on() -> None:
    client = Client(keep).send(request("/0") + request("/1"))
    first, second = client.exchanges
    second.begin_stream(b"text/plain")
    second.send(b"early ")
    first.respond(200, b"0")
    second.send(b"late")
    second.end_stream()
    assert [response.body for response in client.responses()] == [b"0", b"early late"]


def test_a_stream_to_http_10_ends_with_the_connection() -> None:
    client = Client(keep).send(request("/", None, "connection: keep-alive", version="1.0"))
    (exchange,) = client.exchanges
    exchange.begin_stream(b"text/plain")
    exchange.send(b"abc")
    exchange.end_stream()
    client.transport.settle()
    (response,) = client.responses()
    assert response.body == b"abc"
    assert response.closes
    assert client.transport.lost


def test_connection_close_is_obeyed() -> None:
    client = Client().send(request("/a", None, "connection: close"))
    assert client.responses()[0].closes
    assert client.transport.lost


def test_http_10_closes_unless_it_asks_to_stay() -> None:
    assert Client().send(request("/a", version="1.0")).transport.lost
    client = Client().send(request("/a", None, "Connection: Keep-Alive", version="1.0"))
    assert client.responses()[0].headers[b"connection"] == b"keep-alive"
    assert not client.closed


def test_what_follows_connection_close_is_not_answered() -> None:
    client = Client(keep).send(request("/0") + request("/1", None, "connection: close") + request("/2"))
    assert [exchange.path for exchange in client.exchanges] == [b"/0", b"/1"]
    for index in (1, 0):
        answer(client, index)
    assert [response.closes for response in client.responses()] == [False, True]
    assert client.transport.lost
    assert client.server.in_flight == 0


def test_head_is_answered_without_a_body() -> None:
    client = Client().send(request("/a", method="HEAD") + request("/b"))
    head, get = client.responses([b"HEAD", b"GET"])
    assert head.headers[b"content-length"] == b"4"
    assert head.body == b""
    assert get.json == "/b"


def test_a_second_answer_is_a_programming_error() -> None:
    client = Client(keep).send(request())
    (exchange,) = client.exchanges
    exchange.respond(200, b"1")
    with pytest.raises(RuntimeError, match="answered twice"):
        exchange.respond(200, b"2")
    with pytest.raises(RuntimeError, match="answered twice"):
        exchange.begin_stream(b"text/plain")


def test_a_failing_handler_is_a_500_that_tells_nothing_and_a_bug_that_is_logged() -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("secret")

    client = Client(fail).send(request("/a") + request("/b"))
    assert client.statuses() == [500, 500]
    assert b"secret" not in client.transport.received
    assert [type(bug) for bug in client.bugs] == [ZeroDivisionError] * 2


def test_a_handler_that_answers_and_then_fails_is_answered_once() -> None:
    def answer_and_fail(exchange: object) -> None:
        exchange.respond(200, b"1")  # type: ignore[attr-defined]
        raise ZeroDivisionError

    client = Client(answer_and_fail).send(request())
    assert client.statuses() == [200]
    assert len(client.bugs) == 1


def test_a_failure_while_reading_is_a_bug_and_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from setpoint.node.http import reading

    monkeypatch.setattr(reading, "_resolve_target", lambda exchange: 1 // 0)
    client = Client().send(request("http://test/a"))
    assert client.statuses() == [500]
    assert [type(bug) for bug in client.bugs] == [ZeroDivisionError]


def test_a_backlog_of_quick_answers_does_not_grow_the_stack() -> None:
    """Five hundred answered one within the other were a RecursionError, and a 500."""
    slow = []

    def handle(exchange: object) -> None:
        if exchange.path == b"/slow":  # type: ignore[attr-defined]
            slow.append(exchange)
        else:
            exchange.respond(200, b"0")  # type: ignore[attr-defined]

    client = Client(handle, pipeline_limit=4)
    client.send(request("/slow") * 4 + request("/quick") * 500)
    for exchange in slow:
        exchange.respond(200, b"1")
    client.run()
    assert [response.json for response in client.responses()] == [1] * 4 + [0] * 500
    assert not client.bugs


def test_one_connection_may_not_send_ahead_without_limit() -> None:
    client = Client(keep, pipeline_limit=1).send(request() * 2000)
    for index in range(1025):
        answer(client, index)
    assert client.statuses() == [200] * 1025 + [400]
    assert client.server.in_flight == 0
    assert client.closed


def test_no_more_is_read_from_a_client_that_fills_the_pipeline_until_it_is_answered() -> None:
    client = Client(keep, pipeline_limit=2).send(request("/0") + request("/1"))
    assert client.transport.reading
    client.send(request("/2"))
    assert not client.transport.reading
    client.send(request("/3"))
    assert len(client.exchanges) == 2
    answer(client, 0)
    assert len(client.exchanges) == 3
    for index in (1, 2, 3):
        answer(client, index)
    assert [response.json for response in client.responses()] == [0, 1, 2, 3]


def test_a_client_that_does_not_read_is_not_answered_beyond_its_buffer() -> None:
    """One packet of ten thousand requests for a page must not become a hundred megabytes waiting to be read."""
    page = b"x" * 10_000
    client = Client(lambda exchange: exchange.respond(200, page), client_reads=False).send(request() * 200)
    assert len(client.transport.buffered) < 64 * 1024 + 2 * len(page)
    assert not client.transport.reading
    while client.transport.buffered:
        client.transport.client_reads_now()
        client.run()
    assert len(client.responses()) == 200
    assert client.transport.reading


def test_one_packet_of_many_requests_leaves_the_others_their_turn() -> None:
    """Thirteen thousand fit one packet; at 0.2 ms for each mistyped path, the node stood still for seconds."""
    client = Client(pipeline_limit=16)
    client.connection.data_received(request() * 1000)
    assert len(client.exchanges) == 16
    for turn in range(2, 10):
        assert client.turn()
        assert len(client.exchanges) == 16 * turn
    client.run()
    assert client.statuses() == [200] * 1000
    assert client.transport.reading
