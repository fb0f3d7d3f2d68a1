"""HTTP/2 as attackers speak it: each frame legal, together too much; and frames that are none."""

from itertools import count

import pytest
from http2_client import MINIMAL_HEAD, PREFACE, Http2Client, frame
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_memory import Client, keep

from setpoint.node.http import Exchange

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
CALM = 11


def send(client: Http2Client, *frames: bytes) -> Http2Client:
    client.send(*frames)
    client.exchange_bytes()
    return client


def test_the_frames_made_here_are_frames() -> None:
    client = Http2Client(keep)
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, MINIMAL_HEAD))
    assert client.exchanges[0].path == b"/"


def test_streams_opened_and_reset_without_end_are_stopped() -> None:
    """CVE-2023-44487: each costs its sender nothing, and us a request."""
    client = Http2Client(keep)
    for stream in range(1, 4001, 2):
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, MINIMAL_HEAD))
        client.send(frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))
        if client.closed:
            break
    assert client.exchange_bytes().goodbye == CALM
    assert len(client.exchanges) < 500
    assert client.server.in_flight == 0


def test_a_client_may_take_back_what_it_asked_for_at_a_human_pace() -> None:
    client = Http2Client(keep)
    for _ in range(1000):
        client.h2.reset_stream(client.ask(), 8)
        client.wait(0.05)
        client.exchange_bytes()
    assert client.goodbye is None
    assert client.server.in_flight == 0


@pytest.mark.parametrize("size", [0, 1, 1000, 16_384])
def test_headers_without_end_are_stopped(size: int) -> None:
    """CVE-2024-27316: each frame is kept until the last, which never comes."""
    client = send(Http2Client(), frame(HEADERS, 0, 1, MINIMAL_HEAD))
    sent = 0
    while not client.closed:
        client.send(frame(CONTINUATION, 0, 1, b"\0" * size))
        sent += 1
        assert sent < 64
    assert client.exchange_bytes().goodbye == CALM
    assert not client.exchanges


def test_headers_that_take_too_long_are_stopped() -> None:
    client = send(Http2Client(keep, header_timeout_s=10), frame(HEADERS, 0, 1, MINIMAL_HEAD))
    client.wait(9)
    assert not client.closed
    client.wait(2)
    assert client.exchange_bytes().goodbye == CALM


@pytest.mark.parametrize("cut", range(1, 9 + len(MINIMAL_HEAD)))
def test_headers_that_came_in_time_are_forgotten(cut: int) -> None:
    client = Http2Client(keep, header_timeout_s=10)
    message = frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD)
    client.send(message[:cut], message[cut:])
    client.wait(60)
    assert not client.closed


def test_headers_that_unpack_to_far_more_are_stopped() -> None:
    """A reference of one byte to a field of 4 kB, ten thousand times."""
    client = Http2Client(keep, header_limit_bytes=32_768)
    stored = bytes([0x40, 1]) + b"x" + b"\x7f\xa1\x1e" + b"y" * 4000
    send(client, frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD + stored))
    send(client, frame(HEADERS, END_HEADERS | END_STREAM, 3, MINIMAL_HEAD + b"\xbe" * 10_000))
    assert client.goodbye == CALM
    assert len(client.exchanges) == 1


FLOODS = {
    "pings": frame(PING, 0, 0, b"12345678"),
    "settings": frame(SETTINGS, 0, 0),
    "priorities": frame(PRIORITY, 0, 1, b"\0\0\0\x03\x10"),
    "windows": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"),
    "empty data": frame(DATA, 0, 1),
    "unknown frames": frame(0x77, 0, 0),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_carry_nothing_are_stopped(name: str) -> None:
    """CVE-2019-9512 to 9518: they cost us more than their sender."""
    client = Http2Client()
    client.ask("/", b"x", ended=False)
    sent = 0
    while not client.closed:
        client.send(FLOODS[name] * 100)
        sent += 100
        assert sent < 10_000
    assert client.exchange_bytes().goodbye in (CALM, 1)


def test_windows_for_data_that_was_sent_are_in_order() -> None:
    client = Http2Client(lambda exchange: exchange.respond(200, b"x" * 20_000_000))
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(
        stream, [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")], end_stream=True
    )
    client.exchange_bytes()
    assert len(client.replies[stream].body) == 20_000_000


def test_a_long_frame_is_refused_by_its_header() -> None:
    client = send(Http2Client(), frame(DATA, 0, 1, length=16_385))
    assert client.goodbye == CALM


@pytest.mark.parametrize(
    "bad",
    [
        frame(DATA, 0, 0, b"x" * 100),
        frame(DATA, 0, 1, b"x" * 100),
        frame(HEADERS, END_HEADERS, 2, MINIMAL_HEAD),
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),
        frame(HEADERS, END_HEADERS | 8, 1, b"\xff" + MINIMAL_HEAD),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b""),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x84\x82\x86"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD + MINIMAL_HEAD),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD + b"\0\x01X\x01y"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD + b"\0\x0aconnection\x05close"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, MINIMAL_HEAD + b"\0\x01x\x03a\r\n"),
        frame(HEADERS, 0, 1, MINIMAL_HEAD) + frame(PING, 0, 0, b"12345678"),
        frame(CONTINUATION, END_HEADERS, 1, MINIMAL_HEAD),
        frame(SETTINGS, 0, 0, b"x"),
        frame(SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"),
        frame(SETTINGS, 1, 0, b"\0\x04\0\0\0\0"),
        frame(PING, 0, 0, b"1"),
        frame(PING, 0, 1, b"12345678"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        frame(RST_STREAM, 0, 0, b"\0\0\0\0"),
        frame(RST_STREAM, 0, 7, b"\0\0\0\0"),
        frame(5, END_HEADERS, 1, b"\0\0\0\x02" + MINIMAL_HEAD),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_and_reaches_nobody(bad: bytes) -> None:
    client = Http2Client(keep)
    client.send(bad)
    assert client.closed
    assert not client.exchanges
    assert not client.bugs
    client.vanish()
    assert client.server.connections == 0


frames = st.builds(
    frame,
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 5, 2, 2**31 - 1, 2**32 - 1]),
    st.one_of(
        st.binary(max_size=60),
        st.just(MINIMAL_HEAD),
        st.builds(lambda more: MINIMAL_HEAD + more, st.binary(max_size=20)),
        st.sampled_from([b"\0\0\0\x08", b"\0\0\0\0", b"\0\x03\0\0\0\x10", b"12345678"]),
    ),
    st.one_of(st.none(), st.none(), st.integers(0, 70)),
)


@given(st.lists(frames, max_size=12), st.data())
@settings(max_examples=1500)
@example([frame(HEADERS, 5, 1, MINIMAL_HEAD), frame(HEADERS, 5, 1, MINIMAL_HEAD)], None)
@example([frame(HEADERS, 5, 1, MINIMAL_HEAD), frame(GOAWAY, 0, 0, b"\0" * 8)], None)
@example([frame(GOAWAY, 0, 0, b"\0" * 8), frame(HEADERS, 5, 1, MINIMAL_HEAD)], None)
@example([frame(HEADERS, 5, 1, MINIMAL_HEAD), frame(RST_STREAM, 0, 1, b"\0\0\0\x08")], None)
def test_any_frames_are_answered_or_end_the_connection(drawn: list[bytes], data: st.DataObject | None) -> None:
    stream = PREFACE + frame(SETTINGS, 0, 0) + b"".join(drawn)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4))) if data is not None else []
    answered = count()

    def handle(exchange: Exchange) -> None:
        if next(answered) % 2:
            exchange.respond(200, b"1")
        else:
            exchange.begin_stream(b"text/plain")
            exchange.send(b"x" * 100_000)
            exchange.end_stream()

    client = Client(handle)
    client.send(*[stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b])
    client.wait(1)
    assert not client.bugs
    client.vanish()
    assert client.server.in_flight == 0
    assert client.server.held_body_bytes == 0
    assert client.server.connections == 0
