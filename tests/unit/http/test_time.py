"""Every time-out, by moving the clock. Nothing here waits."""

import pytest
from in_memory import Client, keep, request

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"


def test_a_connection_that_never_sends_is_closed() -> None:
    client = Client(idle_timeout_s=75).wait(74)
    assert not client.closed
    assert client.wait(2).transport.lost
    assert not client.transport.received


def test_a_kept_alive_connection_is_closed_after_its_idle_time() -> None:
    client = Client(idle_timeout_s=75).wait(70).send(request()).wait(70)
    assert not client.closed
    assert client.wait(6).transport.lost
    assert client.statuses() == [200]


def test_blank_lines_keep_no_connection_open() -> None:
    client = Client(idle_timeout_s=75)
    for _ in range(80):
        client.wait(1).send(b"\r\n\r\n")
    assert client.transport.lost


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_slow_headers_are_refused(start: bytes) -> None:
    client = Client(header_timeout_s=10).send(start).wait(9)
    assert not client.transport.received
    client.wait(2)
    assert client.statuses() == [408]
    assert client.closed
    assert client.server.in_flight == 0


def test_a_header_byte_now_and_then_does_not_help() -> None:
    client = Client(header_timeout_s=10).send(b"GET / HTTP/1.1\r\nx: ")
    for _ in range(11):
        client.wait(1).send(b"a")
    assert client.statuses() == [408]


def test_a_body_that_takes_too_long_is_refused() -> None:
    client = Client(body_timeout_s=30, body_rate_bytes_per_s=1).send(HEAD)
    for _ in range(30):
        client.wait(1).send(b"aa")
    assert not client.transport.received
    client.wait(1)
    assert client.statuses() == [408]
    assert client.closed


def test_a_body_that_comes_too_slowly_is_refused_long_before_its_time_is_over() -> None:
    client = Client(body_timeout_s=120, body_rate_bytes_per_s=50).send(request("/", b"a" * 9000)[:-9000])
    for _ in range(4):
        client.wait(1).send(b"a" * 40)
        assert not client.transport.received
    client.wait(1)
    assert client.statuses() == [408]
    assert "slower than 50 bytes a second" in client.responses()[0].json["error"]
    assert client.server.held_body_bytes == 0


def test_a_body_that_begins_fast_and_then_stalls_is_refused() -> None:
    """Its mean rate would be good for minutes."""
    client = Client(body_rate_bytes_per_s=50).send(request("/", b"a" * 90_000)[:-1])
    for _ in range(11):
        client.wait(1)
    assert client.statuses() == [408]


def test_a_slow_body_that_keeps_the_rate_is_read() -> None:
    client = Client(body_timeout_s=120, body_rate_bytes_per_s=50).send(request("/", b"a" * 7000)[:-7000])
    for _ in range(100):
        client.wait(1).send(b"a" * 70)
    assert client.statuses() == [200]


def test_each_body_has_its_own_pace() -> None:
    client = Client(body_rate_bytes_per_s=50)
    for _ in range(4):
        client.send(request("/", b"a" * 100)[:-50]).wait(4).send(b"a" * 50)
    assert client.statuses() == [200] * 4


def test_headers_and_body_have_their_own_time() -> None:
    client = Client(header_timeout_s=10, body_timeout_s=30).send(HEAD[:20]).wait(9).send(HEAD[20:]).wait(4)
    assert not client.closed
    client.send(b"a" * 100)
    assert client.statuses() == [200]


def test_a_client_that_waits_for_us_is_not_timed_out() -> None:
    client = Client(keep, idle_timeout_s=75).send(request())
    for _ in range(300):
        client.wait(1)
    assert not client.closed
    client.exchanges[0].respond(200, b"1")
    client.wait(74)
    assert not client.closed
    assert client.statuses() == [200]
    client.wait(2)
    assert client.transport.lost


def test_an_answer_does_not_give_a_slow_sender_more_time() -> None:
    client = Client(keep, header_timeout_s=10).send(request("/0") + b"GET /1").wait(6)
    client.exchanges[0].respond(200, b"0")
    client.wait(5)
    assert client.statuses() == [200, 408]


def test_a_slow_sender_is_refused_behind_what_is_in_flight() -> None:
    client = Client(keep, header_timeout_s=10).send(request("/0") + b"GET /1").wait(11)
    assert not client.transport.received
    client.exchanges[0].respond(200, b"0")
    assert client.statuses() == [200, 408]
    assert client.closed


def test_time_in_which_we_did_not_read_is_not_the_clients() -> None:
    client = Client(keep, pipeline_limit=1, header_timeout_s=10).send(request("/0") + request("/1") + b"GET /2 HT")
    assert not client.transport.reading
    for _ in range(60):
        client.wait(1)
    client.exchanges[0].respond(200, b"0")
    assert client.transport.reading
    client.wait(1).send(b"TP/1.1\r\n\r\n")
    client.exchanges[1].respond(200, b"1")
    client.exchanges[2].respond(200, b"2")
    assert client.statuses() == [200] * 3


def test_a_client_that_does_not_read_is_dropped() -> None:
    gone = []
    client = Client(keep, client_reads=False, write_timeout_s=30).send(request("/0") + request("/1"))
    client.exchanges[1].on_disconnect = lambda: gone.append(1)
    client.exchanges[0].respond(200, b"x" * 200_000)
    assert not client.transport.reading
    client.wait(29)
    assert not client.transport.lost
    client.wait(2)
    assert client.transport.lost
    assert gone == [1]
    assert client.server.in_flight == 0


def test_a_client_that_reads_again_is_served_on() -> None:
    client = Client(client_reads=False, write_timeout_s=30)
    client.send(request("/" + "a" * 10_000) * 20)
    while client.transport.buffered:
        client.wait(20).transport.client_reads_now()
    assert client.transport.reading
    assert client.statuses() == [200] * 20


@pytest.mark.parametrize("close", ["connection: close", "x: y"])
def test_a_client_that_does_not_take_the_end_of_its_last_answer_is_dropped(close: str) -> None:
    """Less than the transport's water mark is left: nothing pauses, and closing alone would wait for ever."""
    client = Client(client_reads=False, idle_timeout_s=75, write_timeout_s=30).send(request("/", None, close))
    for _ in range(76 + 32):
        client.wait(1)
    assert client.transport.lost
    assert client.server.connections == 0


def test_a_client_that_left_without_reading_its_answer_is_dropped() -> None:
    client = Client(client_reads=False, write_timeout_s=30).send(request()).leave().wait(29)
    assert not client.transport.lost
    assert client.wait(2).transport.lost
