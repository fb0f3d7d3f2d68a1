"""Asking a server: the load (wrk, closed loop) and the check of its answers before each load."""

from __future__ import annotations

import http.client
import json
import resource
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lineup import HERE, Case, Peer, read_answer, request_body

TIMEOUT_S = 10
CHECK_CONNECTIONS = 8
ABSOLUTE_TOLERANCE = 2e-4


@dataclass(frozen=True)
class LoadResult:
    """What wrk saw in one measured run. `errors`: non-2xx answers, socket errors and time-outs."""

    connections: int
    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]
    generator_cpu_s: float

    @property
    def requests_per_s(self) -> float:
        """Successful answers per second."""
        return (self.requests - self.errors["non_2xx"]) / self.seconds


class LoadFailed(Exception):
    """wrk could not run or printed no result."""


def load(port: int, path: str, bodies: Path, connections: int, seconds: float) -> LoadResult:
    """Run wrk with one thread and keep-alive connections; `bodies` holds one JSON body a line."""
    url = f"http://127.0.0.1:{port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S}s"]
    command += ["-s", str(HERE / "rotate.lua"), url, "--", path, str(bodies)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadFailed(f"wrk: {error}") from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise LoadFailed(f"wrk: {(done.stderr or done.stdout).strip()[:200]}")
    seen = json.loads(lines[0].removeprefix("RESULT "))
    return LoadResult(
        connections=connections,
        requests=seen["requests"],
        seconds=seen["duration_us"] / 1e6,
        p50_ms=seen["p50_us"] / 1000,
        p90_ms=seen["p90_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        max_ms=seen["max_us"] / 1000,
        errors={kind: seen[kind] for kind in ("non_2xx", "connect", "read", "write", "timeout")},
        generator_cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def ask(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    """One request on an open connection: status and body. OSError or HTTPException when the server is not there."""
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read()


def wrong(peer: Peer, case: Case, status: int, body: bytes) -> str | None:
    """Why an answer is not the right one, or None. The echo must return the request itself."""
    if status != 200:
        return f"status {status}: {body[:120].decode(errors='replace')}"
    if peer.dialect == "echo":
        return None if body == request_body(peer, case) else "the echo is not the request"
    try:
        answer = read_answer(peer, body)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return f"unexpected answer ({error!r}): {body[:120].decode(errors='replace')}"
    for name, expected in case.outputs.items():
        got = answer.get(name)
        if got is None or len(got) != len(expected):
            return f"output '{name}': expected {len(expected)} numbers, got {'none' if got is None else len(got)}"
        difference = max(abs(a - b) for a, b in zip(got, expected, strict=True))
        if not difference <= ABSOLUTE_TOLERANCE:  # also refuses NaN
            return f"output '{name}' is off by {difference:g}"
    return None


def check_answers(peer: Peer, port: int, path: str, cases: list[Case]) -> str | None:
    """Ask every case once, over several connections so that rows mixed up inside a batch show; None: all right."""
    connections = threading.local()

    def one(case: Case) -> str | None:
        if not hasattr(connections, "value"):
            connections.value = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        try:
            return wrong(peer, case, *ask(connections.value, path, request_body(peer, case)))
        except (OSError, http.client.HTTPException) as error:
            connections.value.close()
            return f"no answer: {error!r}"

    with ThreadPoolExecutor(CHECK_CONNECTIONS) as pool:
        return next((reason for reason in pool.map(one, cases) if reason), None)
