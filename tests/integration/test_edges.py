"""The outermost edge with clients that we did not write: HTTP/2, TLS, pages of other origins, what answers say."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded
from harness import RunningNode, event_stream, pack_into, start_node, until

CERTIFICATES = Path(__file__).resolve().parents[1] / "certificates"
MODEL = """
import time
from collections.abc import Iterator
import setpoint as sp

class Model(sp.Model):
    @sp.endpoint(batch=8)
    def double(self, xs: list[int]) -> list[int]:
        return [2 * x for x in xs]

    @sp.endpoint
    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @sp.endpoint
    def size(self, data: bytes) -> int:
        return len(data)

    @sp.endpoint
    def repeat(self, text: str, times: int) -> str:
        return text * times

    @sp.endpoint
    def count(self, to: int, pause: float = 0.0) -> Iterator[int]:
        for number in range(to):
            yield number
            time.sleep(pause)
"""
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("edges")
    pack_into(folder / "home", folder, MODEL, "model")
    limits = {"body_limit_bytes": 4 << 20, "stream_limit": 3, "multiplex_limit": 50}
    running = start_node(folder / "home", folder, "model", limits=limits).until_ready()
    yield running
    assert "bug" not in running.log
    running.end()


@pytest.fixture
def http2(node: RunningNode) -> Iterator[httpx.Client]:
    """Speaks HTTP/2 because it knows that we do."""
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{node.port}", trust_env=False) as client:
        yield client


# --- what answers say of themselves ----------------------------------------------------------------------------------


def test_an_answer_says_what_gave_it_and_how_long_it_took(node: RunningNode) -> None:
    answer = node.ask("POST", "/models/model/double", {"xs": [1]}, headers={"x-request-id": "mine"})
    digest = node.ask("GET", "/v2/models/model").headers["setpoint-model"]
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["setpoint-model"] == digest
    assert digest.startswith("model@sha256:")
    assert answer.headers["setpoint-variant"]
    queue, run = answer.headers["server-timing"].split(", ")
    assert float(queue.removeprefix("queue;dur=")) >= 0
    assert float(run.removeprefix("run;dur=")) > 0


def test_the_run_time_is_the_models(node: RunningNode) -> None:
    timing = node.call("model/wait", seconds=0.2).headers["server-timing"]
    assert 200 <= float(timing.rpartition("=")[2]) < 5000


def test_errors_say_who_asked_and_which_model_refused(node: RunningNode) -> None:
    missing = node.ask("GET", "/no/such/route")
    refused = node.ask("POST", "/models/model/double", b"{", headers={"content-type": "application/json"})
    assert (missing.status, refused.status) == (404, 400)
    assert "setpoint-model" not in missing.headers
    assert refused.headers["setpoint-model"].startswith("model@sha256:")
    assert missing.headers["x-request-id"] != refused.headers["x-request-id"]


def test_a_stream_says_how_long_it_waited(node: RunningNode) -> None:
    with event_stream(node, "model/count", to=2) as events:
        assert [data for _, data in events] == [0, 1]
        headers = {name.lower(): value for name, value in events.response.getheaders()}
    assert headers["server-timing"].startswith("queue;dur=")
    assert headers["setpoint-variant"]
    assert headers["x-request-id"]


def test_a_trace_goes_on(node: RunningNode) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    answer = node.ask("POST", "/models/model/double", {"xs": [1]}, headers={"traceparent": traceparent})
    assert answer.headers["traceresponse"].split("-")[1] == "a" * 32


def test_streams_at_once_have_a_limit(node: RunningNode) -> None:
    held = [event_stream(node, "model/count", to=1000, pause=0.02) for _ in range(3)]
    for stream in held:
        stream.__enter__()
    until(lambda: node.metric("setpoint_http_in_flight") == 4)
    refused = node.call("model/count", to=1)
    assert refused.status == 503
    assert "limit of 3 streams" in refused.error
    for stream in held:
        stream.__exit__(None, None, None)

    def accepted() -> bool:
        return node.call("model/count", to=1).status == 200

    until(accepted)


# --- HTTP/2 by prior knowledge ---------------------------------------------------------------------------------------


def test_httpx_speaks_http2(http2: httpx.Client) -> None:
    answer = http2.post("/models/model/double", json={"xs": [1, 2]}, headers={"x-request-id": "mine"})
    assert (answer.http_version, answer.status_code, answer.json()) == ("HTTP/2", 200, [2, 4])
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["server-timing"].startswith("queue;dur=")
    assert http2.get("/nothing").status_code == 404


def test_large_bodies_both_ways(http2: httpx.Client) -> None:
    assert http2.post("/models/model/size", content=b"x" * 3_000_000).json() == 3_000_000
    assert len(http2.post("/models/model/repeat", json={"text": "ab", "times": 2_000_000}).json()) == 4_000_000


def test_a_body_beyond_the_limit(http2: httpx.Client) -> None:
    assert http2.post("/models/model/size", content=b"x" * (5 << 20)).status_code == 413
    assert http2.post("/models/model/double", json={"xs": [1]}).json() == [2]


def test_many_requests_on_one_connection(node: RunningNode) -> None:
    """Not with threads: two of them may send the heads of their streams in the wrong order."""

    async def ask_all() -> list[object]:
        url = f"http://127.0.0.1:{node.port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=url, trust_env=False, timeout=60) as client:
            await client.get("/v2/health/live")
            before = node.metric("setpoint_http_connections")
            asked = [client.post("/models/model/double", json={"xs": [number]}) for number in range(120)]
            answers = [answer.json() for answer in await asyncio.gather(*asked)]
            assert node.metric("setpoint_http_connections") == before
            return answers

    assert asyncio.run(ask_all()) == [[2 * number] for number in range(120)]


def test_a_stream_of_events_comes_as_it_is_made(http2: httpx.Client) -> None:
    with http2.stream("POST", "/models/model/count", json={"to": 4, "pause": 0.05}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert data == [0, 1, 2, 3]


def test_taking_a_stream_back_stops_it_and_nothing_else(node: RunningNode) -> None:
    """With h2 itself: httpx leaves a stream without telling the server."""
    cancelled = node.outcomes().get("cancelled", 0)
    body = b'{"to": 10000, "pause": 0.02}'
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/models/model/count")]
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        client.send_headers(1, [*head, ("content-length", str(len(body)))])
        client.send_data(1, body, end_stream=True)
        connection.sendall(client.data_to_send())
        received = b""
        while b"data: 1\n" not in received:
            data = connection.recv(65536)
            received += data
            client.receive_data(data)
        client.reset_stream(1, ErrorCodes.CANCEL)
        client.send_headers(3, [*head[:3], (":path", "/v2/health/live"), (":method", "GET")][1:], end_stream=True)
        connection.sendall(client.data_to_send())
        until(lambda: node.outcomes().get("cancelled", 0) == cancelled + 1)
        while not any(isinstance(event, StreamEnded) for event in client.receive_data(connection.recv(65536))):
            pass


@needs_curl
def test_curl_speaks_http2(node: RunningNode) -> None:
    command = ["curl", "-sS", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}", "-d"]
    url = f"http://127.0.0.1:{node.port}/models/model/double"
    said = subprocess.run([*command, '{"xs":[3]}', url], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout == "[6] 2 200"
    upgraded = [*command[:2], "--http2", *command[3:]]  # offers it, and is answered in HTTP/1.1
    said = subprocess.run([*upgraded, '{"xs":[3]}', url], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout == "[6] 1.1 200"


@needs_curl
def test_curl_is_told_that_its_body_is_too_large(node: RunningNode, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (6 << 20))
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{tmp_path / 'large'}"]
    url = f"http://127.0.0.1:{node.port}/models/model/size"
    said = subprocess.run([*command, url], capture_output=True, text=True, timeout=30)
    assert "limit of 4194304 bytes" in said.stdout


def test_draining_answers_what_http2_clients_wait_for(pack, serve) -> None:
    node: RunningNode = serve(pack(MODEL))
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{node.port}", trust_env=False) as client:
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/models/model/wait", json={"seconds": 0.5}))
        )
        asking.start()
        until(lambda: node.metric("setpoint_workers", state="busy") == 1)
        assert node.stop() == 0
        asking.join()
    assert answers[0].json() == 0.5


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key that a test may replace."""
    for suffix in ("crt", "key"):
        shutil.copy(CERTIFICATES / f"node.{suffix}", tmp_path / f"tls.{suffix}")
    return tmp_path / "tls.crt", tmp_path / "tls.key"


def trusting(*names: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for name in names:
        context.load_verify_locations(CERTIFICATES / f"{name}.crt")
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def certificate_name(port: int) -> str:
    context = trusting("node", "renewed")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return str(dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"])


@pytest.fixture
def tls_node(pack, serve, pair: tuple[Path, Path]) -> RunningNode:
    options = [f"--tls-cert={pair[0]}", f"--tls-key={pair[1]}", "--cors-origin=https://app.example.com"]
    node: RunningNode = serve(pack(MODEL), options=options)
    return node


def test_tls_with_both_versions_of_http(tls_node: RunningNode) -> None:
    url = json.loads(tls_node.stdout_path.read_text())["url"]
    assert url.startswith("https://")
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        with httpx.Client(http2=http2, verify=trusting("node"), base_url=url, trust_env=False) as client:
            answer = client.post(
                "/models/model/double", json={"xs": [4]}, headers={"origin": "https://app.example.com"}
            )
            assert (answer.http_version, answer.json()) == (version, [8])
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
            assert len(client.post("/models/model/repeat", json={"text": "ab", "times": 1_000_000}).json()) == 2_000_000
            with client.stream("POST", "/models/model/count", json={"to": 3}) as stream:
                assert stream.read().count(b"data: ") == 3
    for old in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with httpx.Client(verify=trusting("node", version=old), base_url=url, trust_env=False) as client:
            assert client.get("/v2/health/live").status_code == 200


def test_what_is_no_tls_is_dropped_and_disturbs_nobody(tls_node: RunningNode) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\0" * 5000, b""):
        with socket.create_connection(("127.0.0.1", tls_node.port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    assert certificate_name(tls_node.port) == "setpoint test node"
    assert "Traceback" not in tls_node.log


def test_a_renewed_certificate_is_used_without_a_restart(tls_node: RunningNode, pair: tuple[Path, Path]) -> None:
    assert certificate_name(tls_node.port) == "setpoint test node"
    shutil.copy(CERTIFICATES / "renewed.crt", pair[0])
    tls_node.process.send_signal(signal.SIGHUP)
    until(lambda: "goes on with the certificate that it has" in tls_node.log, what="half a pair is refused")
    assert certificate_name(tls_node.port) == "setpoint test node"
    shutil.copy(CERTIFICATES / "renewed.key", pair[1])
    tls_node.process.send_signal(signal.SIGHUP)
    until(lambda: certificate_name(tls_node.port) == "setpoint test renewed")
    assert tls_node.stop() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert=CERTS/missing.crt"], "cannot read the TLS certificate"),
        (["--tls-cert=CERTS/node.crt", "--tls-key=CERTS/renewed.key"], "is not that of the certificate"),
        (["--tls-cert=CERTS/node.crt", "--tls-key=CERTS/locked.key"], "has a passphrase"),
        (["--tls-key=CERTS/node.key"], "a TLS key needs its certificate"),
        (["--cors-origin=app.example.com"], "--cors-origin takes an origin"),
    ],
)
def test_what_cannot_be_is_one_sentence(pack, options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "setpoint", "serve", pack(MODEL), "--port=0"]
    given = [option.replace("CERTS", str(CERTIFICATES)) for option in options]
    ended = subprocess.run(
        [*command, *given], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=os.environ
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert said in line


def test_a_preflight_of_a_page(tls_node: RunningNode) -> None:
    connection = http.client.HTTPSConnection("localhost", tls_node.port, context=trusting("node"))
    asks = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    connection.request("OPTIONS", "/models/model/double", headers=asks)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    connection.close()


def test_grpc_is_encrypted_with_the_same_certificate(pack, serve, pair: tuple[Path, Path]) -> None:
    grpc = pytest.importorskip("grpc")
    options = [f"--tls-cert={pair[0]}", f"--tls-key={pair[1]}", "--grpc-port=0"]
    node: RunningNode = serve(pack(MODEL), options=options)
    address = node.announced["grpc"].replace("127.0.0.1", "localhost")

    def live(name: str) -> bool:
        root = (CERTIFICATES / f"{name}.crt").read_bytes()
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            try:
                return bool(call(b"", timeout=10) == b"\x08\x01")
            except grpc.RpcError:
                return False

    assert live("node")
    assert not live("renewed")
    for suffix, path in zip(("crt", "key"), pair, strict=True):
        shutil.copy(CERTIFICATES / f"renewed.{suffix}", path)
    node.process.send_signal(signal.SIGHUP)
    until(lambda: live("renewed"))
    assert not live("node")
