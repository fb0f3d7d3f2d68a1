"""HTTP/2: the same requests, answers, limits and time-outs, many at once on one connection."""

import gc
import weakref

import pytest
from http2_client import MINIMAL_HEAD, PREFACE, Http2Client, Reply, frame
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import Client, keep, request

from setpoint.core import InvalidRequest
from setpoint.node.http import Exchange

HEADERS = 1


def echo(exchange: Exchange) -> None:
    exchange.respond(
        200, b"%b %b?%b %b" % (exchange.method, exchange.path, exchange.query, exchange.body), b"text/plain"
    )


# --- requests and answers --------------------------------------------------------------------------------------------


def test_a_request_and_its_answer() -> None:
    reply = Http2Client(echo).reply("/a%20b?x=1", b"body", [("x-request-id", "mine")])
    assert reply.body == b"POST /a%20b?x=1 body"
    assert (reply.status, reply.ended, reply.reset) == (200, True, None)
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["content-length"] == "20"
    assert reply.headers["x-request-id"] == "mine"
    assert reply.headers["server"] == "setpoint"
    assert "date" in reply.headers
    assert "connection" not in reply.headers


def test_the_parts_of_a_request_are_those_of_http_1() -> None:
    client = Http2Client(keep)
    client.ask(
        "/", b"x", [("content-type", "a/b"), ("tracestate", "a=1"), ("tracestate", "b=2"), ("x", "1"), ("x", "2")]
    )
    (exchange,) = client.exchanges
    assert exchange.headers == {b"host": b"test", b"content-type": b"a/b", b"tracestate": b"a=1,b=2", b"x": b"2"}


def test_lines_of_the_handler_become_headers() -> None:
    def handle(exchange: Exchange) -> None:
        exchange.lines = b"server-timing: queue;dur=0.1\r\nsetpoint-variant: fp32\r\n"
        exchange.respond(200, b"1", headers=((b"more", b"too"),))

    headers = Http2Client(handle).reply().headers
    assert (headers["server-timing"], headers["setpoint-variant"], headers["more"]) == ("queue;dur=0.1", "fp32", "too")


def test_a_trace_is_answered() -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    assert Http2Client().reply(headers=[("traceparent", traceparent)]).headers["traceresponse"][3:35] == "a" * 32


def test_many_requests_at_once_are_answered_in_any_order() -> None:
    client = Http2Client(keep)
    asked = [client.ask(f"/{index}") for index in range(100)]
    for exchange in reversed(client.exchanges):
        exchange.respond(200, exchange.path)
    client.exchange_bytes()
    assert [client.replies[stream].body for stream in asked] == [b"/%d" % index for index in range(100)]
    assert client.server.in_flight == 0


def test_the_preface_may_come_in_pieces() -> None:
    hello = Http2Client(echo).h2
    hello.initiate_connection()
    sent = hello.data_to_send()
    client = Client(echo)
    client.send(*[sent[index : index + 1] for index in range(len(sent))])
    assert client.transport.received[3:4] == b"\x04"
    assert not client.closed


def test_the_preface_behind_a_request_is_none() -> None:
    """A proxy that passed it on would have given somebody else's connection away."""
    client = Client().send(request(), PREFACE)
    assert client.statuses() == [200, 400]


def test_bugs_and_refusals_are_answered() -> None:
    def handle(exchange: Exchange) -> None:
        raise InvalidRequest("no") if exchange.path == b"/no" else KeyError("x")

    client = Http2Client(handle)
    assert [client.reply("/no").status, client.reply("/bug").status] == [400, 500]
    assert len(client.bugs) == 1


def test_head_has_no_body() -> None:
    client = Http2Client(echo)
    client.h2.send_headers(1, [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "x")], True)
    reply = client.exchange_bytes().replies[1]
    assert (reply.body, reply.headers["content-length"], reply.ended) == (b"", "8", True)


def test_a_client_that_asks_is_told_to_continue() -> None:
    client = Http2Client(echo)
    stream = client.ask("/", b"", [("expect", "100-continue")], ended=False)
    assert client.replies[stream].interim == ["100"]
    client.say(stream, b"ok")
    assert client.replies[stream].body == b"POST /? ok"


@given(st.lists(st.binary(max_size=200_000), max_size=5))
@settings(max_examples=25)
def test_bodies_of_any_size_come_and_go(bodies: list[bytes]) -> None:
    client = Http2Client(lambda exchange: exchange.respond(200, exchange.body))
    assert [client.reply("/", body).body for body in bodies] == bodies
    assert client.server.in_flight == 0
    assert client.server.held_body_bytes == 0


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_streamed_answer_comes_as_it_is_sent() -> None:
    client = Http2Client(keep)
    stream = client.ask()
    (exchange,) = client.exchanges
    exchange.begin_stream(b"text/event-stream")
    for _ in range(3):
        exchange.send(b"data\n\n")
        client.exchange_bytes()
        assert client.replies[stream].body.endswith(b"data\n\n")
    assert not client.replies[stream].ended
    exchange.end_stream()
    reply = client.exchange_bytes().replies[stream]
    assert (reply.body, reply.ended) == (b"data\n\n" * 3, True)
    assert client.server.in_flight == 0


def test_an_empty_stream_ends() -> None:
    client = Http2Client(keep)
    stream = client.ask()
    client.exchanges[0].begin_stream(b"text/event-stream")
    client.exchanges[0].end_stream()
    assert client.exchange_bytes().replies[stream].ended


def test_a_slow_reader_holds_up_its_own_stream_only() -> None:
    client = Http2Client(keep, reads=False)
    slow, quick = client.ask("/slow"), client.ask("/quick")
    resumed = []
    client.exchanges[0].on_writable = lambda: resumed.append(1)
    client.exchanges[0].begin_stream(b"text/event-stream")
    client.h2.increment_flow_control_window(1 << 20)
    client.exchange_bytes()
    resumed.clear()
    while not client.exchanges[0].congested:
        client.exchanges[0].send(b"x" * 1000)
    client.exchanges[1].respond(200, b"quick")
    client.exchange_bytes()
    assert client.replies[quick].body == b"quick"
    assert len(client.replies[slow].body) == 65_535
    assert not resumed
    client.h2.increment_flow_control_window(100_000, slow)
    client.exchange_bytes()
    assert resumed
    assert len(client.replies[slow].body) == 66_000
    client.exchanges[0].end_stream()
    assert client.exchange_bytes().replies[slow].ended


def test_large_answers_share_the_connection() -> None:
    client = Http2Client(keep)
    streams = [client.ask() for _ in range(3)]
    for exchange in client.exchanges:
        exchange.respond(200, b"x" * 1_000_000)
    client.exchange_bytes()
    assert [len(client.replies[stream].body) for stream in streams] == [1_000_000] * 3


def test_a_transport_that_is_behind_is_given_no_more() -> None:
    client = Http2Client(keep, client_reads=False)
    client.transport.client_reads_now()
    client.exchange_bytes()
    client.h2.increment_flow_control_window(1 << 30)
    for _ in range(3):
        stream = client.ask()
        client.h2.increment_flow_control_window(1 << 30, stream)
    client.exchange_bytes()
    for exchange in client.exchanges:
        exchange.respond(200, b"x" * 5_000_000)
    assert len(client.transport.buffered) < 2_000_000
    while client.transport.buffered:
        client.transport.client_reads_now()
        client.exchange_bytes()
    assert [len(client.replies[stream].body) for stream in (1, 3, 5)] == [5_000_000] * 3


# --- leaving ---------------------------------------------------------------------------------------------------------


def watch(client: Http2Client) -> list[int]:
    gone: list[int] = []
    for index, exchange in enumerate(client.exchanges):
        exchange.on_disconnect = lambda index=index: gone.append(index)
    return gone


def test_a_request_that_is_taken_back_is_cancelled_and_the_others_are_not() -> None:
    client = Http2Client(keep)
    streams = [client.ask() for _ in range(3)]
    gone = watch(client)
    client.h2.reset_stream(streams[1], 8)
    client.exchange_bytes()
    assert gone == [1]
    for exchange in client.exchanges:
        exchange.respond(200, b"1")
    client.exchange_bytes()
    assert [client.replies.get(stream, Reply()).body for stream in streams] == [b"1", b"", b"1"]
    assert client.server.in_flight == 0


def test_what_is_taken_back_at_once_is_never_begun() -> None:
    client = Http2Client(keep)
    for stream in (1, 3):
        client.h2.send_headers(
            stream, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")], True
        )
    client.h2.reset_stream(1)
    client.exchange_bytes()
    assert len(client.exchanges) == 1
    assert client.server.in_flight == 1


@pytest.mark.parametrize("how", ["leave", "vanish", "goodbye"])
def test_everything_is_cancelled_when_the_client_leaves(how: str) -> None:
    client = Http2Client(keep)
    client.ask()
    client.ask("/half", b"x" * 100, ended=False)
    gone = watch(client)
    if how == "goodbye":
        client.h2.close_connection()
        client.exchange_bytes()
    else:
        getattr(client, how)()
    assert gone == [0]
    client.exchanges[0].respond(200, b"1")
    assert client.transport.lost
    assert (client.server.in_flight, client.server.connections, client.server.held_body_bytes) == (0, 0, 0)


def test_a_lost_connection_waits_for_no_garbage_collector() -> None:
    client = Http2Client()
    client.reply()
    connection = weakref.ref(client.transport.connection)
    gc.disable()
    try:
        client.leave()
        client.exchanges.clear()
        del client.connection
        assert connection() is None
    finally:
        gc.enable()


def test_draining_answers_what_was_begun_and_then_says_goodbye() -> None:
    client = Http2Client(keep)
    first = client.ask()
    client.server.draining = True
    client.transport.connection.drain()
    late = client.ask()
    client.exchanges[1].respond(503, b"{}")
    assert client.exchange_bytes().replies[late].status == 503
    assert client.goodbye is None
    client.exchanges[0].respond(200, b"1")
    assert client.exchange_bytes().replies[first].body == b"1"
    assert client.goodbye == 0
    assert client.closed


def test_draining_closes_an_idle_connection_with_a_goodbye() -> None:
    client = Http2Client()
    client.reply()
    client.transport.connection.drain()
    assert client.exchange_bytes().goodbye == 0
    assert client.closed


# --- limits and time-outs --------------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_refused_at_once_and_the_connection_goes_on() -> None:
    client = Http2Client(echo, body_limit_bytes=1000)
    declared = client.replies[client.ask("/", b"x", [("content-length", "1001")], ended=False)]
    undeclared = client.replies[client.ask("/", b"x" * 1001, ended=False)]
    for reply in (declared, undeclared):
        assert (reply.status, reply.ended, reply.reset) == (413, True, None)
        assert "--max-body" in reply.json["error"]
    assert client.reply("/", b"x" * 1000).status == 200
    assert client.server.held_body_bytes == 0


def test_a_refused_client_may_finish_sending() -> None:
    """Many send all of their request before they read anything."""
    client = Http2Client(echo, body_limit_bytes=1000)
    quick, slow = (client.ask("/", b"x" * 1001, ended=False) for _ in range(2))
    client.say(quick, b"x" * 2_000_000)
    client.wait(0.5)
    client.exchange_bytes()
    assert [client.replies[stream].reset for stream in (quick, slow)] == [None, None]
    client.wait(1)
    client.exchange_bytes()
    assert [client.replies[stream].reset for stream in (quick, slow)] == [None, 0]
    assert client.reply().status == 200
    assert client.server.held_body_bytes == 0


@pytest.mark.parametrize("length", ["+1", "-1", "x", "", "1" * 30])
def test_a_length_that_is_none_is_the_clients_mistake(length: str) -> None:
    client = Http2Client(echo)
    stream = client.ask("/", b"x", [("content-length", length)], ended=False)
    assert client.goodbye == 1 or client.replies[stream].status in (400, 413)
    assert not client.bugs


def test_headers_beyond_the_limits_are_refused() -> None:
    client = Http2Client(echo, header_limit_bytes=2000, header_count_limit=20)
    assert client.reply(headers=[("x", "y" * 2100)]).status == 431
    assert client.reply(headers=[(f"x-{index}", "y") for index in range(21)]).status == 431
    assert client.reply(headers=[("x", "y") for _ in range(21)]).status == 431
    assert client.reply(headers=[(f"x-{index}", "y") for index in range(20)]).status == 200


def test_all_bodies_being_read_have_a_limit_together() -> None:
    client = Http2Client(echo, bodies_limit_bytes=3000)
    first = client.ask("/", b"x" * 2000, ended=False)
    assert client.server.held_body_bytes == 2000
    assert client.reply("/", b"x" * 2000, ended=False).status == 503
    client.say(first, b"x")
    assert client.replies[first].status == 200
    assert client.server.held_body_bytes == 0


def test_requests_at_once_have_a_number() -> None:
    client = Http2Client(keep, multiplex_limit=3)
    assert client.h2.remote_settings.max_concurrent_streams == 3
    for stream in range(1, 8, 2):
        client.send(frame(HEADERS, 5, stream, MINIMAL_HEAD))
    client.exchange_bytes()
    assert client.goodbye is not None
    assert client.closed
    client.vanish()
    assert client.server.in_flight == 0


def test_a_slow_body_is_refused() -> None:
    client = Http2Client(echo, body_rate_bytes_per_s=50)
    stream = client.ask("/", b"x" * 100, ended=False)
    for _ in range(11):
        client.wait(1)
    assert client.exchange_bytes().replies[stream].status == 408
    assert client.reply().status == 200


def test_an_idle_connection_is_closed() -> None:
    client = Http2Client(echo, idle_timeout_s=75)
    client.wait(70).reply()  # type: ignore[attr-defined]
    client.wait(70)
    assert not client.closed
    client.wait(6)
    assert client.exchange_bytes().goodbye == 0
    assert client.closed


def test_a_client_that_waits_for_us_is_not_timed_out() -> None:
    client = Http2Client(keep, idle_timeout_s=75)
    stream = client.ask()
    for _ in range(100):
        client.wait(1)
    client.exchanges[0].respond(200, b"1")
    assert client.exchange_bytes().replies[stream].status == 200


def test_an_answer_whose_window_stays_shut_is_dropped() -> None:
    client = Http2Client(
        reads=False, handler=lambda exchange: exchange.respond(200, b"x" * 100_000), write_timeout_s=30
    )
    stream = client.ask()
    client.wait(29)
    assert client.server.in_flight == 1
    client.wait(2)
    assert client.exchange_bytes().replies[stream].reset == 8
    assert client.server.in_flight == 0


def test_a_client_that_does_not_read_is_dropped() -> None:
    client = Http2Client(keep, client_reads=False, write_timeout_s=30)
    client.transport.client_reads_now()
    client.h2.increment_flow_control_window(1 << 30)
    for _ in range(3):
        client.h2.increment_flow_control_window(1 << 29, client.ask())
    client.exchange_bytes()
    for exchange in client.exchanges:
        exchange.respond(200, b"x" * 1_000_000)
    client.wait(31)
    assert client.transport.lost
    assert client.server.in_flight == 0
