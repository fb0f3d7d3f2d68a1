"""A node in a process of its own, and plain clients that do not share code with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import onnx
from prometheus_client.parser import text_string_to_metric_families

from setpoint.formats import PackOptions
from setpoint.registry import Registry, pack_source

T = TypeVar("T")
NODE_PROGRAM = Path(__file__).resolve().parent / "node_program.py"


def pack_into(home: Path, folder: Path, source: str | Path | onnx.ModelProto, name: str, **options: Any) -> str:
    """Pack a path, a graph or the text of a Python file; returns the model's name. ``options`` as ``PackOptions``."""
    if isinstance(source, onnx.ModelProto):
        path = folder / f"{name}.onnx"
        onnx.save(source, path)
    elif isinstance(source, str) and "\n" in source:
        path = folder / f"{name}.py"
        path.write_text(source)
    else:
        path = Path(source)
    return pack_source(path, name=name, options=PackOptions(**options), registry=Registry(home))[0].name


def until(condition: Callable[[], T], timeout_s: float = 20.0, what: str = "") -> T:
    """Poll until ``condition()`` is truthy and return it; fails the test when time is up."""
    end_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int, *, zombies: bool = False, fork_servers: bool = False) -> list[int]:
    """Direct children of a process, oldest first; without the processes that its workers are forked from."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = rest.split()
        if name == "setpoint-forks" and not fork_servers:
            continue
        if int(fields[1]) == pid and (zombies or fields[0] not in "ZX"):
            found.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass
class RunningNode:
    """A node's process as its operator sees it."""

    process: subprocess.Popen[bytes]
    log_path: Path
    stdout_path: Path
    port: int = 0
    seen_workers: set[int] = field(default_factory=set)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def until_ready(self, timeout_s: float = 60.0) -> RunningNode:
        def announced() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log}")
            return self.stdout_path.read_bytes().endswith(b"\n")

        until(announced, timeout_s, "the node is ready")
        self.port = int(self.announced["url"].rpartition(":")[2])
        return self

    @property
    def announced(self) -> Any:
        """What it printed when it was ready."""
        return json.loads(self.stdout_path.read_text().splitlines()[0])

    def workers(self) -> list[int]:
        """Pids of its worker processes."""
        pids = children(self.pid)
        self.seen_workers.update(pids)
        return pids

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: Any = None, timeout_s: float = 30.0, headers: Mapping[str, str] = {}
    ) -> Answer:
        """One request on a connection of its own. ``body`` is JSON unless it is bytes."""
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if payload is not None and not isinstance(body, bytes) else {}
        begun_s = time.monotonic()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            connection.request(method, path, payload, {**kind, **headers})
            response = connection.getresponse()
            content = response.read()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, content, time.monotonic() - begun_s)

    def call(self, route: str, timeout_s: float = 30.0, **arguments: Any) -> Answer:
        """POST to ``/models/ROUTE``."""
        return self.ask("POST", f"/models/{route}", arguments, timeout_s)

    def call_all(self, route: str, bodies: Iterable[Mapping[str, Any]], timeout_s: float = 30.0) -> list[Answer]:
        """Many requests at once, each on its own connection; answers in the order of the bodies."""
        listed = list(bodies)
        with ThreadPoolExecutor(len(listed)) as pool:
            return list(pool.map(lambda body: self.ask("POST", f"/models/{route}", body, timeout_s), listed))

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Every sample of ``/metrics``: name → sorted labels → value."""
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.ask("GET", "/metrics").body.decode()):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        wanted = set(labels.items())
        return sum(value for found, value in self.metrics().get(name, {}).items() if wanted <= set(found))

    def batches_up_to(self, rows: int) -> float:
        """Batches of at most so many rows; ``rows`` is one of the histogram's bounds."""
        buckets = self.metrics()["setpoint_batch_rows_bucket"]
        (count,) = [value for labels, value in buckets.items() if float(dict(labels)["le"]) == rows]
        return count

    def outcomes(self) -> dict[str, int]:
        """Outcome → requests, over all models."""
        totals: dict[str, int] = {}
        for labels, value in self.metrics().get("setpoint_requests_total", {}).items():
            totals[dict(labels)["outcome"]] = totals.get(dict(labels)["outcome"], 0) + int(value)
        return totals

    # --- ending --------------------------------------------------------------------------------------------------

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.workers()
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; returns the exit code."""
        self.signal()
        return self.process.wait(timeout_s)

    def end(self) -> None:
        """For the fixture: nothing of it is left afterwards, and it is an error if something had to be killed late."""
        if self.process.poll() is None:
            self.workers()
            self.process.kill()
            self.process.wait()
        try:
            until(lambda: not any(map(alive, self.seen_workers)), 5, "the node's workers ended with it")
        finally:
            for pid in filter(alive, self.seen_workers):
                os.kill(pid, signal.SIGKILL)


def start_node(
    home: Path,
    folder: Path,
    *models: str,
    workers: int = 1,
    threads: int = 1,
    port: int = 0,
    limits: Mapping[str, float] = {},
    console_script: bool = False,
    options: Sequence[str] = (),
) -> RunningNode:
    """Start ``setpoint serve``; a program that does the same where a limit is asked for that it has no option for."""
    number = len(list(folder.glob("node-*.log")))
    log_path, stdout_path = folder / f"node-{number}.log", folder / f"node-{number}.out"
    stdout_path.touch()
    flags = {name: f"--{name.removesuffix('_s').removesuffix('_rows').replace('_', '-')}" for name in limits}
    sizes = [f"--workers={workers}", f"--threads={threads}", f"--port={port}"]
    if flags.keys() <= {"queue_limit_rows", "request_timeout_s", "run_timeout_s", "drain_timeout_s"}:
        values = [f"{flags[name]}={value}" for name, value in limits.items()]
        program = (
            [str(Path(sys.executable).with_name("setpoint"))] if console_script else [sys.executable, "-m", "setpoint"]
        )
        command = [*program, "serve", *models, "--json", *sizes, *values, *options]
    else:
        command = [sys.executable, str(NODE_PROGRAM), *models, *sizes, f"--limits={json.dumps(limits)}", *options]
    with log_path.open("wb") as log, stdout_path.open("wb") as stdout:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            env={**os.environ, "SETPOINT_HOME": str(home)},
        )
    return RunningNode(process, log_path, stdout_path)


@contextlib.contextmanager
def event_stream(node: RunningNode, route: str, timeout_s: float = 20.0, **arguments: Any) -> Iterator[EventStream]:
    """Call a streaming endpoint over a plain socket."""
    body = json.dumps(arguments).encode()
    with socket.create_connection(("127.0.0.1", node.port), timeout=timeout_s) as connection:
        head = f"POST /models/{route} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        response = http.client.HTTPResponse(connection, method="POST")
        try:
            yield EventStream(connection, response)
        finally:
            response.close()


@dataclass
class EventStream:
    """Server-sent events as they arrive."""

    connection: socket.socket
    response: http.client.HTTPResponse

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """``(event name, decoded data)``; ends where the response does."""
        self.response.begin()
        if self.response.status != 200:
            raise AssertionError(f"status {self.response.status}: {self.response.read()!r}")
        name, data = "message", b""
        while line := self.response.readline():
            if line == b"\n":
                yield name, json.loads(data)
                name, data = "message", b""
            elif line.startswith(b"event: "):
                name = line[7:-1].decode()
            elif line.startswith(b"data: "):
                data = line[6:-1]
