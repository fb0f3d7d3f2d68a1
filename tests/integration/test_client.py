"""The Python client against real nodes, and against servers that behave badly on real sockets."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import RunningNode
from onnx import TensorProto, helper

from setpoint.client import AsyncClient, Client, Retries
from setpoint.core import (
    DeadlineExceeded,
    InvalidConfiguration,
    InvalidRequest,
    MethodNotAllowed,
    ModelError,
    NotFound,
    NotReady,
    QueueFull,
    RequestTooLarge,
    WorkerLost,
)

CERTIFICATES = Path(__file__).resolve().parents[1] / "certificates"
TALKER = """
import time
from collections.abc import Iterator
import setpoint as sp

class Talker(sp.Model):
    @sp.endpoint
    def say(self, text: str, seconds: float = 0) -> str:
        time.sleep(seconds)
        return text

    @sp.endpoint(batch=4)
    def shout(self, texts: list[str]) -> list[str]:
        time.sleep(0.3)
        return [text.upper() for text in texts]

    @sp.endpoint
    def count(self, to: int, seconds: float = 0) -> Iterator[int]:
        for number in range(to):
            time.sleep(seconds)
            if number == 5:
                raise RuntimeError("five is too much")
            yield number

    @sp.endpoint
    def size(self, body: bytes) -> int:
        return len(body)
"""


def doubler() -> onnx.ModelProto:
    """Y = X + X, float32 [-1, 3]."""
    node = helper.make_node("Add", ["X", "X"], ["Y"])
    shape = ["rows", 3]
    graph = helper.make_graph(
        [node],
        "doubler",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def node(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> RunningNode:
    return serve(pack(doubler(), "doubler"), pack(TALKER, "talker"), limits={"queue_limit_rows": 8})


@pytest.fixture
def url(node: RunningNode) -> str:
    return f"http://127.0.0.1:{node.port}"


def test_all_that_can_be_asked(url: str, node: RunningNode) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    with Client(url) as client:
        assert client.ready()
        models = {model.name: model for model in client.models()}
        assert models.keys() == {"doubler", "talker"}
        assert models["talker"].endpoints[:2] == ("talker/say", "talker/shout")
        assert models["doubler"].ready
        assert [str(spec) for spec in models["doubler"].inputs] == ["X FP32[-1, 3]"]
        for answer in (
            client.infer("doubler", X=rows),
            client.infer("doubler", {"X": rows.tolist()}, outputs=["Y"]),
            client.infer("doubler:1", X=rows.astype(np.float64)),
        ):
            np.testing.assert_array_equal(answer["Y"], 2 * rows)
            assert answer["Y"].dtype == np.float32
            answer["Y"] += 1
        assert client.infer("doubler", X=np.zeros((1, 3)), priority=1, timeout_s=5)["Y"].shape == (1, 3)
        assert client.call("talker/say", text="é") == "é"
        assert client.call("talker/shout", texts=["a", "b"]) == ["A", "B"]
        assert client.call_raw("talker/size", b"\x00" * 100_000) == 100_000
        assert list(client.stream("talker/count", to=3)) == [0, 1, 2]
        assert "setpoint_http_connections" in client.metrics()
        # All of this went over one connection; the other one asks this.
        assert node.metric("setpoint_http_connections") <= 2


def test_the_same_on_an_event_loop(url: str) -> None:
    async def ask() -> None:
        rows = np.arange(6, dtype=np.float32).reshape(2, 3)
        async with AsyncClient(url) as client:
            assert await client.ready()
            assert {model.name for model in await client.models()} == {"doubler", "talker"}
            answers = await asyncio.gather(*(client.infer("doubler", X=rows + number) for number in range(20)))
            for number, answer in enumerate(answers):
                np.testing.assert_array_equal(answer["Y"], 2 * (rows + number))
            assert await client.call("talker/say", text="a") == "a"
            assert await client.call_raw("talker/size", b"abc") == 3
            assert [event async for event in client.stream("talker/count", to=3)] == [0, 1, 2]
            assert "setpoint_http_connections" in await client.metrics()
            with pytest.raises(InvalidRequest):
                await client.call("talker/say", text=3)
            with pytest.raises(DeadlineExceeded):
                await client.within(0.2).call("talker/say", text="a", seconds=1)

    asyncio.run(ask())


def test_the_blocking_client_works_where_a_loop_runs_already(url: str) -> None:
    async def cell() -> str:
        with Client(url) as client:
            answer: str = client.call("talker/say", text="in a notebook")
        return answer

    assert asyncio.run(cell()) == "in a notebook"


def test_threads_share_a_client(url: str) -> None:
    with Client(url) as client, ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda number: client.infer("doubler", X=np.full((1, 3), number))["Y"][0, 0], range(60))
        )
    assert answers == [2 * number for number in range(60)]


def test_errors_are_the_nodes_own(url: str) -> None:
    with Client(url) as client:
        with pytest.raises(InvalidRequest, match="text"):
            client.call("talker/say", text=3)
        with pytest.raises(NotFound, match="did you mean"):
            client.call("talker/sey", text="a")
        with pytest.raises(NotFound):
            client.infer("nobody", X=[[1]])
        with pytest.raises(InvalidRequest, match=r"the model takes \[-1, 3\]"):
            client.infer("doubler", X=[[1.0]])
        with pytest.raises(InvalidRequest, match="no output"):
            client.infer("doubler", X=[[1.0, 2, 3]], outputs=["Z"])
        events = client.stream("talker/count", to=9)
        with pytest.raises(ModelError, match="five is too much"):
            list(events)
        with pytest.raises(InvalidRequest):
            list(client.stream("talker/count", to="x"))
        assert client.call("talker/say", text="still there") == "still there"


def test_an_answer_that_comes_too_late_is_not_waited_for(url: str) -> None:
    with Client(url, timeout_s=30) as client:
        begun_s = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.within(0.3).call("talker/say", text="a", seconds=5)
        assert time.monotonic() - begun_s < 4
        assert client.within(20).call("talker/shout", texts=["b"]) == ["B"]  # when that worker is free


def test_a_full_queue_is_come_back_to(url: str, node: RunningNode) -> None:
    """More than the queue takes at once, from clients that wait as they are told: all are answered in the end."""
    with Client(url, retries=Retries(attempts=50)) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.call("talker/shout", texts=[f"a{number}"] * 4), range(8)))
    assert answers == [[f"A{number}"] * 4 for number in range(8)]
    assert node.metric("setpoint_http_responses_total", code="503") > 0


def test_or_told_of_where_nobody_wants_to_wait(url: str) -> None:
    with Client(url, retries=Retries(attempts=1)) as client, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> object:
            try:
                return client.call("talker/shout", texts=["a"] * 4)
            except QueueFull as refused:
                return refused

        answers = list(pool.map(ask, range(8)))
    refused = [answer for answer in answers if isinstance(answer, QueueFull)]
    assert refused
    assert all(error.retry_after_s > 0 for error in refused)


def test_a_stream_that_is_left_is_stopped(url: str, node: RunningNode) -> None:
    with Client(url) as client:
        events = client.stream("talker/count", to=5, seconds=0.05)
        assert next(events) == 0
        events.close()
        assert client.call("talker/say", text="the worker is free") == "the worker is free"


def test_a_restarted_node_is_found_again(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> None:
    name = pack(TALKER, "talker")
    first = serve(name)
    with Client(f"http://127.0.0.1:{first.port}", timeout_s=30, retries=Retries(attempts=100)) as client:
        assert client.call("talker/say", text="a") == "a"
        first.stop()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.call, "talker/say", text="b")
            serve(name, port=first.port)
            assert waiting.result() == "b"


def test_an_encrypted_node(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> None:
    certificate = CERTIFICATES / "node.crt"
    options = [f"--tls-cert={certificate}", f"--tls-key={CERTIFICATES / 'node.key'}"]
    node = serve(pack(TALKER, "talker"), options=options)
    url, trusting = f"https://127.0.0.1:{node.port}", ssl.create_default_context(cafile=certificate)

    async def ask() -> None:
        async with AsyncClient(url, tls=trusting) as client:
            assert await client.call("talker/say", text="a") == "a"
            assert [event async for event in client.stream("talker/count", to=2)] == [0, 1]

    with Client(url, tls=trusting) as client:
        assert client.call("talker/say", text="a") == "a"
        assert client.call_raw("talker/size", bytes(1_000_000)) == 1_000_000
        assert list(client.stream("talker/count", to=2)) == [0, 1]
    asyncio.run(ask())
    with Client(url) as suspicious, pytest.raises(NotReady, match="CERTIFICATE_VERIFY_FAILED"):
        suspicious.models()


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", retries=Retries(attempts=2)) as client:
        assert not client.ready()
        with pytest.raises(NotReady, match=f"nothing answers at 127.0.0.1:{port}"):
            client.models()
    with pytest.raises(InvalidConfiguration, match="expected a URL"):
        Client("127.0.0.1:8000")

    async def ask() -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}", retries=Retries(attempts=2)) as client:
            assert not await client.ready()
            with pytest.raises(NotReady, match="nothing answers"):
                await client.models()

    asyncio.run(ask())


# --- servers that behave badly ----------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1"
BUSY = b"HTTP/1.1 503 Busy\r\nretry-after-ms: 10\r\ncontent-length: 0\r\n\r\n"
LOST = b"HTTP/1.1 503 Lost\r\nretry-after: 1\r\nsetpoint-error: worker_lost\r\ncontent-length: 0\r\n\r\n"
LARGE = b'HTTP/1.1 413 Large\r\nconnection: close\r\ncontent-length: 16\r\n\r\n{"error":"much"}'


class Scripted:
    """A server that answers each request with the next of its lines; what it read is counted.

    A line of ``b"close"`` closes instead of answering; ``b"wait"`` never answers.
    """

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = list(lines)
        self.requests = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while self._lines and self._read(connection):
            self.requests += 1
            line = self._lines.pop(0)
            if line == b"close":
                return
            if line == b"wait":
                connection.recv(1)
                return
            connection.sendall(line)
            if b"connection: close" in line:
                return

    def _read(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return False
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
        if length > 1_000_000:
            return True  # refuses it unread
        while len(body) < length:
            body += connection.recv(65536)
        return True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def make(*lines: bytes) -> Scripted:
        servers.append(Scripted(list(lines)))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def call_both(server: Scripted, **options: object) -> Iterator[Callable[[], object]]:
    """The same call by both clients, one after the other."""

    async def ask() -> object:
        async with AsyncClient(server.url, **options) as client:
            return await client.call("m/e", a=1)

    def ask_blocking() -> object:
        with Client(server.url, **options) as client:
            return client.call("m/e", a=1)

    yield ask_blocking
    yield lambda: asyncio.run(ask())


def test_a_busy_server_is_asked_again_on_the_same_connection(scripted: Callable[..., Scripted]) -> None:
    server = scripted(BUSY, BUSY, OK, BUSY, OK)
    assert [ask() for ask in call_both(server)] == [1, 1]
    assert (server.requests, server.connections) == (5, 2)


@pytest.mark.parametrize(("line", "error"), [(b"close", NotReady), (LOST, WorkerLost)])
def test_a_request_that_may_have_run_is_not_sent_again(
    scripted: Callable[..., Scripted], line: bytes, error: type[Exception]
) -> None:
    server = scripted(line, line, OK)
    for ask in call_both(server):
        with pytest.raises(error):
            ask()
    assert server.requests == 2


def test_a_connection_that_was_closed_meanwhile_is_not_used(scripted: Callable[..., Scripted]) -> None:
    server = scripted(OK.replace(b"\r\n\r\n", b"\r\nx: y\r\n\r\n"), OK)
    with Client(server.url) as client:
        assert client.call("m/e") == 1
        (connection,) = client._connections._idle
        connection._socket.shutdown(socket.SHUT_RDWR)  # as if the server had
        assert client.call("m/e") == 1
    assert server.requests == 2


def test_silence_ends_with_the_deadline(scripted: Callable[..., Scripted]) -> None:
    server = scripted(b"wait", b"wait")
    for ask in call_both(server, timeout_s=0.3):
        with pytest.raises(DeadlineExceeded, match="within the time"):
            ask()
    assert server.requests == 2


def test_a_body_that_is_refused_unread_gives_the_refusal(scripted: Callable[..., Scripted]) -> None:
    server = scripted(LARGE)
    with Client(server.url) as client, pytest.raises((RequestTooLarge, NotReady)):
        client.call_raw("m/e", bytes(20_000_000))


@pytest.mark.parametrize("line", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1"])
def test_what_is_no_answer_is_said(scripted: Callable[..., Scripted], line: bytes) -> None:
    server = scripted(line + b"connection: close" if line.startswith(b"SSH") else line)
    with Client(server.url, timeout_s=1) as client, pytest.raises((NotReady, DeadlineExceeded)):
        client.call("m/e")


def test_a_wrong_verb_has_its_class(scripted: Callable[..., Scripted]) -> None:
    server = scripted(b"HTTP/1.1 405 No\r\nallow: GET\r\ncontent-length: 0\r\n\r\n")
    with Client(server.url) as client, pytest.raises(MethodNotAllowed):
        client.call("m/e")
