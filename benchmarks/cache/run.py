"""What does an answer cost that is known already, beside one that must be computed?

One node for each setting, asked in turns with V2 JSON over plain sockets by one client, several rounds; answers are
checked. `off`: no cache; `miss`: with a cache, every input new; `hit`: the same input again and again; `redis`: the
same, but known to a Redis only (`redis-server` is started where it is installed).

    python benchmarks/cache/run.py [iris.onnx] [encoder.onnx] [--rounds 5] [--seconds 3]

Without models: those that `benchmarks/peers/models.py` has built. Printed are medians over the rounds: the time of one
request on one connection, requests/s on eight, and the processor time of node and workers per request then. The client
takes its part of the same cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime

PEERS = Path(__file__).resolve().parents[2] / "build" / "peers"
CONNECTIONS = 8
SEQUENCE = 32
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
DATATYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int64)": ("INT64", np.int64)}


class Questions:
    """Requests to one model, and whether an answer is right."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.inputs = self.session.get_inputs()
        self.random = np.random.default_rng(7)
        self.first = self.new()

    def new(self) -> dict[str, np.ndarray]:
        """One row, unlike any before."""
        row = {}
        for tensor in self.inputs:
            if tensor.name == "attention_mask":
                row[tensor.name] = np.ones((1, SEQUENCE), np.int64)
            elif tensor.type == "tensor(int64)":
                row[tensor.name] = self.random.integers(1996, 30000, (1, SEQUENCE))
            else:
                row[tensor.name] = self.random.random((1, tensor.shape[1])).astype(DATATYPES[tensor.type][1]) * 8
        return row

    def body(self, row: dict[str, np.ndarray], name: str) -> bytes:
        inputs = [
            {
                "name": t.name,
                "datatype": DATATYPES[t.type][0],
                "shape": row[t.name].shape,
                "data": row[t.name].ravel().tolist(),
            }
            for t in self.inputs
        ]
        text = json.dumps({"inputs": inputs}).encode()
        return b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
            name.encode(),
            len(text),
            text,
        )

    def check(self, row: dict[str, np.ndarray], answer: bytes) -> None:
        outputs = json.loads(answer)["outputs"]
        for output, expected in zip(outputs, self.session.run(None, row), strict=True):
            if not np.allclose(np.array(output["data"]).ravel(), expected.ravel(), atol=1e-4):
                raise SystemExit(f"wrong answer: {answer[:200]!r}")


def answer_of(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"{head[:60]!r}: {body[:200]!r}")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return body


def cpu_s(pid: int) -> float:
    """Of a process and its children, by now."""
    pids, total = [pid], 0.0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) in pids:
                pids.append(int(entry.name))
    for each in pids:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


@dataclass
class Node:
    pid: int
    address: tuple[str, int]
    name: str

    def turn(self, questions: Questions, same: bool, seconds: float) -> tuple[float, float, float]:
        """Median µs of a request on one connection, requests/s on several, and processor µs per request then."""
        made = [questions.first if same else questions.new() for _ in range(1 if same else 20_000)]
        requests = [questions.body(row, self.name) for row in made]
        taken = 0

        def ask(connection: socket.socket) -> None:
            nonlocal taken
            connection.sendall(requests[taken % len(requests)])
            taken += 1

        connections = [socket.create_connection(self.address) for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times, end_s = [], time.perf_counter() + seconds / 2
        while (begin_s := time.perf_counter()) < end_s:
            ask(connections[0])
            answer = answer_of(connections[0])
            times.append(time.perf_counter() - begin_s)
        questions.check(made[(taken - 1) % len(made)], answer)
        before, cpu_before_s, begin_s = taken, cpu_s(self.pid), time.perf_counter()
        for connection in connections:
            ask(connection)
        while time.perf_counter() < begin_s + seconds / 2:
            for connection in connections:
                answer_of(connection)
                ask(connection)
        for connection in connections:
            answer_of(connection)
            connection.close()
        passed_s, count = time.perf_counter() - begin_s, taken - before
        if not same and taken > len(requests):
            raise SystemExit(f"{taken} requests, but only {len(requests)} different ones: ask for fewer --seconds")
        return statistics.median(times) * 1e6, count / passed_s, (cpu_s(self.pid) - cpu_before_s) / count * 1e6


@contextlib.contextmanager
def node(model: Path, home: Path, *options: str) -> Iterator[Node]:
    command = [
        sys.executable,
        "-m",
        "setpoint",
        "serve",
        str(model),
        "--json",
        "--port",
        "0",
        "--threads",
        "1",
        *options,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "SETPOINT_HOME": str(home)}
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        address = urlsplit(said["url"])
        try:
            yield Node(process.pid, (str(address.hostname), int(address.port or 0)), said["models"][0]["name"])
        finally:
            process.terminate()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def measure(model: Path, rounds: int, seconds: float) -> None:
    questions = Questions(model)
    found: dict[str, list[tuple[float, float, float]]] = {}
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plain = stack.enter_context(node(model, home))
        cached = stack.enter_context(node(model, home, "--cache", "256MiB"))
        turns = [("off", plain, True), ("miss", cached, False), ("hit", cached, True)]
        if shutil.which("redis-server"):
            url = stack.enter_context(redis(home))
            # No answer fits into so little memory: every request asks the Redis.
            remote = stack.enter_context(node(model, home, "--cache", "1KiB", "--cache-url", url))
            turns.append(("redis", remote, True))
        for _, asked, same in turns:
            asked.turn(questions, same, seconds)
        for _ in range(rounds):
            for name, asked, same in turns:
                found.setdefault(name, []).append(asked.turn(questions, same, seconds))
    print(f"{model.stem:12} {'µs, 1 conn.':>12} {'requests/s, 8':>14} {'processor µs':>13}")
    for name, results in found.items():
        latency_us, rate, cpu_us = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{name:12} {latency_us:12.0f} {rate:14.0f} {cpu_us:13.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", type=Path, default=[PEERS / "models" / "iris.onnx", PEERS / "models" / "minilm.onnx"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    for model in asked.models:
        measure(model, asked.rounds, asked.seconds)


if __name__ == "__main__":
    main()
