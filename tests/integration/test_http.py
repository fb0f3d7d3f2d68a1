"""HTTP as clients speak it, over real sockets: ordinary clients, slow ones, too many of them, and those that leave."""

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from harness import RunningNode, pack_into, start_node, until

from hostile.responses import Response, read_responses

MODEL = """
import time
import setpoint as sp

class Model(sp.Model):
    @sp.endpoint
    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @sp.endpoint(batch=8)
    def double(self, xs: list[int]) -> list[int]:
        return [2 * x for x in xs]

    @sp.endpoint
    def size(self, data: bytes) -> int:
        return len(data)

    @sp.endpoint
    def repeat(self, text: str, times: int) -> str:
        return text * times
"""
LIMITS = {
    "json_limit_bytes": 1 << 20,
    "header_timeout_s": 0.6,
    "body_timeout_s": 1.0,
    "idle_timeout_s": 1.5,
    "write_timeout_s": 1.0,
    "body_limit_bytes": 4 << 20,
    "connection_limit": 50,
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """With limits that tests can wait for; the sweep that enforces them comes twice a second."""
    folder = tmp_path_factory.mktemp("http")
    pack_into(folder / "home", folder, MODEL, "model")
    running = start_node(folder / "home", folder, "model", limits=LIMITS).until_ready()
    yield running
    assert "bug" not in running.log
    running.end()


@contextlib.contextmanager
def connected(node: RunningNode, timeout_s: float = 10.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", node.port), timeout=timeout_s) as connection:
        yield connection


def to_end(connection: socket.socket) -> list[Response]:
    """All responses until the node closes."""
    received = b""
    while more := connection.recv(1 << 16):
        received += more
    return read_responses(received)


def receive(connection: socket.socket, count: int) -> list[Response]:
    """So many responses on a connection that stays open."""
    received = b""
    while len(responses := read_responses(received, closed=False)) < count:
        more = connection.recv(1 << 16)
        assert more, f"closed after {received!r}"
        received += more
    return responses


def post(path: str, arguments: object, *headers: str) -> bytes:
    body = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
    lines = [f"POST {path} HTTP/1.1", "host: node", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


# --- ordinary clients ------------------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests(node: RunningNode) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.port)) as client:
        for index in range(50):
            client.request("POST", "/models/model/double", json.dumps({"xs": [index]}))
            sock = client.sock
            response = client.getresponse()
            assert json.loads(response.read()) == [2 * index]
            assert client.sock is sock


def test_pipelined_requests_are_answered_in_order_however_long_each_takes(node: RunningNode) -> None:
    waits = [0.2, 0.0, 0.1, 0.0]
    requests = [post("/models/model/wait", {"seconds": seconds}) for seconds in waits]
    requests.insert(1, b"GET /v2/health/live HTTP/1.1\r\nhost: node\r\n\r\n")
    requests.insert(3, post("/models/model/wait", b"{"))
    with connected(node) as connection:
        connection.sendall(b"".join(requests))
        responses = receive(connection, 6)
    assert [response.status for response in responses] == [200, 200, 200, 400, 200, 200]
    assert [response.json for response in responses if response.status == 200] == [0.2, {"live": True}, 0.0, 0.1, 0.0]


def test_a_chunked_upload_arrives_whole(node: RunningNode) -> None:
    pieces = [os.urandom(size) for size in (1, 70_000, 2, 300_000)]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.port)) as client:
        headers = {"content-type": "application/octet-stream"}
        client.request("POST", "/models/model/size", iter(pieces), headers, encode_chunked=True)
        assert json.loads(client.getresponse().read()) == sum(map(len, pieces))


def test_a_client_that_waits_for_100_continue_gets_it(node: RunningNode) -> None:
    head, _, body = post("/models/model/double", {"xs": [4]}, "expect: 100-continue").partition(b"\r\n\r\n")
    with connected(node) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert receive(connection, 1)[0].json == [8]


def test_java_s_offer_of_http_2_is_declined_and_its_body_read(node: RunningNode) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    with connected(node) as connection:
        for index in range(3):
            connection.sendall(post("/models/model/double", {"xs": [index]}, *offer))
            assert receive(connection, 1)[0].json == [2 * index]


def test_a_large_answer_arrives_whole(node: RunningNode) -> None:
    answer = node.call("model/repeat", text="ab", times=8_000_000)
    assert len(answer.json) == 16_000_000


@pytest.mark.parametrize("path", ["double", "size"])
def test_codings_that_nobody_reads_are_refused_and_bodies_not_taken_as_they_are(node: RunningNode, path: str) -> None:
    answer = node.ask("POST", f"/models/model/{path}", b"\x1f\x8b\x08", headers={"content-encoding": "br"})
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert "content-encoding 'br' is not supported; send the body plain, or as gzip or deflate" in answer.error
    cut = node.ask("POST", f"/models/model/{path}", b"\x1f\x8b\x08", headers={"content-encoding": "gzip"})
    assert (cut.status, cut.error) == (400, "the gzip body ends before its stream does")


def test_compressed_bodies_reach_endpoints_as_they_were(node: RunningNode) -> None:
    for headers, body in (
        ({"content-encoding": "identity"}, b"abc"),
        ({"content-encoding": "gzip"}, gzip.compress(b"abc")),
        ({"content-encoding": "X-GZIP"}, gzip.compress(b"abc")),
        ({"content-encoding": "deflate"}, zlib.compress(b"abc")),
    ):
        assert node.ask("POST", "/models/model/size", body, headers=headers).json == 3
    large = gzip.compress(bytes(3 << 20))
    assert node.ask("POST", "/models/model/size", large, headers={"content-encoding": "gzip"}).json == 3 << 20


# --- too much --------------------------------------------------------------------------------------------------------


def test_a_client_reads_why_its_upload_was_refused(node: RunningNode) -> None:
    """Closing at once would reset the connection under its hands, and the answer with it."""
    for size in (LIMITS["body_limit_bytes"] + 1, 60 << 20):
        answer = node.ask("POST", "/models/model/size", bytes(int(size)))
        assert answer.status == 413
        assert "--max-body" in answer.error


def test_a_large_json_body_is_refused_where_the_same_bytes_raw_are_taken(node: RunningNode) -> None:
    body = b'{"content":"' + b"A" * int(LIMITS["json_limit_bytes"]) + b'"}'
    refused = node.ask("POST", "/models/model/size", body, headers={"content-type": "application/json"})
    assert refused.status == 413
    assert "--max-json" in refused.error
    raw = node.ask("POST", "/models/model/size", body, headers={"content-type": "application/octet-stream"})
    assert raw.json == len(body)


def test_a_chunked_upload_without_end_is_refused(node: RunningNode) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    with connected(node) as connection:
        connection.sendall(b"POST /models/model/size HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            until(lambda: connection.sendall(chunk), 5)
    assert node.metric("setpoint_http_responses_total", code="413") >= 1
    assert node.metric("setpoint_resident_bytes", process="node") < 150 << 20


def test_connections_beyond_the_limit_are_refused_and_the_others_served_and_workers_replaced(node: RunningNode) -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(node)) for _ in range(45)]
        flood = [socket.create_connection(("127.0.0.1", node.port), timeout=5) for _ in range(600)]
        stack.callback(lambda: [connection.close() for connection in flood])
        said = flood[20].recv(1000)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"limit of 50 connections" in said
        (worker,) = node.workers()
        os.kill(worker, signal.SIGKILL)
        for index, connection in enumerate(kept[:5]):
            connection.sendall(post("/models/model/double", {"xs": [index]}))
            assert receive(connection, 1)[0].json == [2 * index]
    until(lambda: node.metric("setpoint_http_connections") == 1, 5, "the flood is over")
    assert node.call("model/double", xs=[1]).json == [2]


# --- slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v2 HTTP/1.1\r\nhost: no",
        b"POST /models/model/size HTTP/1.1\r\nhost: node\r\ncontent-length: 999\r\n\r\nabc",
    ],
    ids=["headers", "body"],
)
def test_a_slow_sender_is_refused_however_it_keeps_busy(node: RunningNode, start: bytes) -> None:
    begun_s = time.monotonic()
    with connected(node) as connection:
        connection.sendall(start)
        connection.settimeout(0.05)
        received = b""
        while not received:
            with contextlib.suppress(TimeoutError):
                received = connection.recv(1000)
            if not received and int(time.monotonic() * 20) % 4 == 0:
                connection.sendall(b"x")
        assert read_responses(received)[0].status == 408
    assert time.monotonic() - begun_s < 3


def test_an_idle_connection_is_closed_without_a_word(node: RunningNode) -> None:
    with connected(node) as connection:
        assert connection.recv(1) == b""
    with connected(node) as connection:
        connection.sendall(post("/models/model/double", {"xs": [1]}))
        assert [response.status for response in to_end(connection)] == [200]


@pytest.mark.parametrize("last", [False, True], ids=["kept alive", "last answer"])
def test_a_client_that_does_not_read_is_dropped_and_its_answers_are_not_piled_up(node: RunningNode, last: bool) -> None:
    before = node.metric("setpoint_resident_bytes")
    headers = ("connection: close",) if last else ()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", node.port))
        if last:
            connection.sendall(post("/models/model/repeat", {"text": "x", "times": 20_000_000}, *headers))
        else:
            connection.sendall(b"GET /docs HTTP/1.1\r\nhost: node\r\n\r\n" * 5000)  # 90 MB of answers
        until(lambda: node.metric("setpoint_http_connections") == 2, 5)
        until(lambda: node.metric("setpoint_http_connections") == 1, 8, "the slow reader was dropped")
        until(lambda: node.metric("setpoint_http_in_flight") == 1, 5)
    grown = node.metric("setpoint_resident_bytes") - before
    # One 20 MB answer needs four times that while it is made, of which the node may keep 64 MiB for the next one.
    assert grown < (84 << 20 if last else 12 << 20), f"grew by {grown / 2**20:.0f} MiB"


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_work_for_a_client_that_left_is_not_done(node: RunningNode) -> None:
    cancelled = node.outcomes().get("cancelled", 0)
    with connected(node) as first, connected(node) as second:
        first.sendall(post("/models/model/wait", {"seconds": 0.5}))
        until(lambda: node.metric("setpoint_workers", state="busy") == 1)
        begun_s = time.monotonic()
        second.sendall(post("/models/model/wait", {"seconds": 30}) * 10)
        until(lambda: node.metric("setpoint_queue_rows") == 10)
        second.shutdown(socket.SHUT_WR)
        until(lambda: node.metric("setpoint_queue_rows") == 0, 1)
        assert receive(first, 1)[0].json == 0.5
    assert node.call("model/wait", seconds=0).json == 0
    assert time.monotonic() - begun_s < 3
    assert node.outcomes()["cancelled"] == cancelled + 10
    assert sum(node.outcomes().values()) == node.metric("setpoint_requests_accepted_total")


def test_accepted_pipelined_requests_are_answered_while_the_node_ends(pack, serve) -> None:
    node: RunningNode = serve(pack(MODEL), limits={"pipeline_limit": 4})
    waits = [0.3] + [0.01] * 29
    with connected(node) as connection:
        connection.sendall(b"".join(post("/models/model/wait", {"seconds": seconds}) for seconds in waits))
        until(lambda: node.metric("setpoint_http_in_flight") == 31)
        ended = threading.Thread(target=node.stop)
        ended.start()
        responses = to_end(connection)
        ended.join()
    # Four were handed on before the signal, and what waited behind them had been read, too.
    assert [response.json for response in responses] == waits
    assert [response.closes for response in responses] == [False] * 29 + [True]
    assert node.process.returncode == 0
