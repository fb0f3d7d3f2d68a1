"""What do clients see while workers are killed all the time?

Starts a node with a small ONNX model, keeps it under closed-loop load, and kills a random worker with SIGKILL every
second. Every answer is checked, every request must be answered within a few seconds, and at each scrape the node's
counters must add up. Exits 1 if any of that fails.

    python benchmarks/chaos/run.py [--seconds 60] [--connections 64] [--workers 2] [--every 1.0] [--json]

What may happen, and nothing else: 200 with the right numbers; or 503 with Retry-After, where the request lost its
second worker ("tried 2 times"), or where no worker was there to take it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import uvloop
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families

HANG_S = 5.0
"""An answer that takes longer counts as a hang."""
GIVE_UP_S = 30.0
"""A client that has waited this long leaves; its request was lost."""
FEATURES = 4
WIDTH, DEPTH = 384, 6


class Tally(msgspec.Struct):
    """What clients and killer saw."""

    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    wrong: list[str] = msgspec.field(default_factory=list)
    latencies_s: list[float] = msgspec.field(default_factory=list)
    kills: int = 0
    scrapes: int = 0
    unbalanced: list[str] = msgspec.field(default_factory=list)


class Findings(msgspec.Struct):
    """The result; printed as a table, or as JSON."""

    seconds: float
    connections: int
    workers: int
    kills: int
    requests: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    hangs: int
    rows_per_batch: float
    retries: int
    restarts: dict[str, int]
    accepted: int
    outcomes: dict[str, int]
    scrapes: int
    node_rss_before_mib: float
    node_rss_after_mib: float
    node_descriptors_before: int
    node_descriptors_after: int
    failures: list[str]


Metrics = dict[str, list[tuple[dict[str, str], float]]]


class Node:
    """A node in a process of its own, with a registry of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        model = folder / "doubler.onnx"
        onnx.save(doubler(), model)
        options = ["--json", "--until-stdin-closes", "--port=0", f"--workers={workers}", "--threads=1"]
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "setpoint", "serve", str(model), *options],
            stdin=subprocess.PIPE,  # it ends with us, however we end
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "SETPOINT_HOME": str(folder / "home")},
        )
        assert self.process.stdout is not None
        announced = self.process.stdout.readline()
        if not announced:
            raise SystemExit(f"the node did not start:\n{(folder / 'log').read_text()}")
        self.port = int(json.loads(announced)["url"].rpartition(":")[2])

    @property
    def workers(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if int(parent) == self.process.pid and state not in "ZX" and name != "setpoint-forks":
                    found.append(int(entry.name))
        return found

    @property
    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self) -> list[str]:
        """SIGTERM; says what was not as it should be."""
        workers = self.workers
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._log.close()
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        self.process.stdout.close()
        self.process.stdin.close()
        left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        return [f"the node's exit code was {code}"] * (code != 0) + [f"workers {left} outlived the node"] * bool(left)


def doubler() -> onnx.ModelProto:
    """y = x + x + 0 · (a deep network of x): known answers, and a worker that has a batch in its hands when it dies."""
    sizes = [FEATURES, *[WIDTH] * DEPTH, FEATURES]
    random_numbers = np.random.default_rng(0)
    initializers = [numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"])]
    for layer, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weights = random_numbers.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weights, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"h{layer}" if layer else "x", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"h{layer + 1}"]))
    nodes.append(helper.make_node("Mul", [f"h{len(sizes) - 1}", "zero"], ["nothing"]))
    nodes.append(helper.make_node("Add", ["twice", "nothing"], ["y"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", FEATURES]) for name in "xy")
    graph = helper.make_graph(nodes, "doubler", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes = b""
) -> tuple[int, bytes, bytes]:
    """One request; returns status, headers in lower case, body."""
    writer.write(f"{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    headers = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(headers.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(headers[9:12]), headers, await reader.readexactly(length)


async def client(number: int, port: int, ending: asyncio.Event, tally: Tally) -> None:
    """Asks again as soon as it is answered; its numbers are nobody else's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while not ending.is_set():
        count += 1
        numbers = [number, count % 100_000, number + 1, count % 7]
        tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": numbers}
        body = msgspec.json.encode({"inputs": [tensor]})
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(GIVE_UP_S):
                status, headers, answer = await exchange(reader, writer, "POST /v2/models/doubler/infer", body)
        except (TimeoutError, OSError, EOFError) as error:
            tally.wrong.append(f"request {count} of client {number} was lost: {error!r}")
            return
        tally.latencies_s.append(time.perf_counter() - begun_s)
        tally.statuses[status] += 1
        if status == 200:
            got = json.loads(answer)["outputs"][0]["data"]
            if got != [2 * value for value in numbers]:
                tally.wrong.append(f"{numbers} gave {got}")
        elif status == 503 and b"retry-after: " in headers:
            reason = json.loads(answer)["error"]
            tally.reasons[reason] += 1
            if "tried 2 times" not in reason and "no worker" not in reason:
                tally.wrong.append(f"503 against the rule: {reason}")
            await asyncio.sleep(0.05)  # Retry-After says a second or more; a test has less patience
        else:
            tally.wrong.append(f"status {status}: {answer[:200]!r}")
    writer.close()


async def killer(node: Node, every_s: float, ending: asyncio.Event, tally: Tally) -> None:
    """Kills one worker, whatever it is doing, again and again."""
    chance = random.Random(0)
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), every_s)
            return
        if workers := node.workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            tally.kills += 1


async def scrape(port: int) -> Metrics:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    _, _, text = await exchange(reader, writer, "GET /metrics")
    writer.close()
    found: Metrics = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(metrics: Metrics, name: str) -> int:
    return int(sum(value for _, value in metrics.get(name, [])))


def by_label(metrics: Metrics, name: str, label: str) -> dict[str, int]:
    return {labels[label]: int(value) for labels, value in metrics.get(name, [])}


async def auditor(node: Node, ending: asyncio.Event, tally: Tally) -> None:
    """Looks at the counters all the time: whatever happens, they must add up."""
    while not ending.is_set():
        metrics = await scrape(node.port)
        accepted = total(metrics, "setpoint_requests_accepted_total")
        ended, in_flight = total(metrics, "setpoint_requests_total"), total(metrics, "setpoint_requests_in_flight")
        tally.scrapes += 1
        if accepted != ended + in_flight:
            tally.unbalanced.append(f"accepted {accepted} is not ended {ended} + in flight {in_flight}")
        await asyncio.sleep(0.25)


async def rampage(node: Node, seconds: float, connections: int, every_s: float) -> tuple[Tally, Metrics]:
    tally, ending = Tally(), asyncio.Event()
    clients = [asyncio.create_task(client(number, node.port, ending, tally)) for number in range(connections)]
    others = [asyncio.create_task(killer(node, every_s, ending, tally))]
    others.append(asyncio.create_task(auditor(node, ending, tally)))
    await asyncio.sleep(seconds)
    ending.set()
    await asyncio.gather(*clients, *others)
    return tally, await scrape(node.port)


def judge(tally: Tally, metrics: Metrics) -> list[str]:
    """What was not as it should be."""
    failures = tally.wrong[:10] + tally.unbalanced[:10]
    hangs = [latency_s for latency_s in tally.latencies_s if latency_s > HANG_S]
    if hangs:
        failures.append(f"{len(hangs)} answers took longer than {HANG_S} s, the longest {max(hangs):.1f} s")
    accepted, outcomes = total(metrics, "setpoint_requests_accepted_total"), outcomes_of(metrics)
    if accepted != sum(outcomes.values()):
        failures.append(f"at the end: accepted {accepted}, outcomes {outcomes}")
    if outcomes.get("ok", 0) != tally.statuses[200]:
        failures.append(f"the node counts {outcomes.get('ok', 0)} good answers, the clients {tally.statuses[200]}")
    said = by_label(metrics, "setpoint_http_responses_total", "code").get("503", 0)
    if said != tally.statuses[503]:
        failures.append(f"the node counts {said} refusals, the clients {tally.statuses[503]}")
    lost = sum(count for reason, count in tally.reasons.items() if "tried" in reason)
    if outcomes.get("worker_lost", 0) != lost:
        failures.append(f"the node counts {outcomes.get('worker_lost', 0)} requests lost with workers, clients {lost}")
    died = by_label(metrics, "setpoint_worker_restarts_total", "reason")
    if died != {"died": tally.kills}:
        failures.append(f"{tally.kills} workers were killed, the node counts {died}")
    return failures


def outcomes_of(metrics: Metrics) -> dict[str, int]:
    return by_label(metrics, "setpoint_requests_total", "outcome")


def run(seconds: float, connections: int, workers: int, every_s: float, folder: Path) -> Findings:
    with running(folder, workers) as (node, failures):
        uvloop.run(rampage(node, 0.5, connections, 1e9))  # what grows once grows now
        rss_before_mib, descriptors_before = node.rss_mib, node.descriptors
        warm = uvloop.run(scrape(node.port))
        tally, metrics = uvloop.run(rampage(node, seconds, connections, every_s))
        metrics = {name: less(samples, warm.get(name, [])) for name, samples in metrics.items()}
        await_workers(node, workers)
        rss_after_mib, descriptors_after = node.rss_mib, node.descriptors
        failures += judge(tally, metrics)
        if descriptors_after > descriptors_before:
            failures.append(f"descriptors grew from {descriptors_before} to {descriptors_after}")
    latencies_ms = sorted(latency_s * 1e3 for latency_s in tally.latencies_s)
    return Findings(
        seconds=seconds,
        connections=connections,
        workers=workers,
        kills=tally.kills,
        requests=len(latencies_ms),
        statuses={str(status): count for status, count in sorted(tally.statuses.items())},
        reasons=dict(tally.reasons.most_common()),
        requests_per_s=len(latencies_ms) / seconds,
        p50_ms=latencies_ms[len(latencies_ms) // 2],
        p99_ms=latencies_ms[len(latencies_ms) * 99 // 100],
        slowest_ms=latencies_ms[-1],
        hangs=sum(latency_ms > HANG_S * 1e3 for latency_ms in latencies_ms),
        rows_per_batch=total(metrics, "setpoint_batch_rows_sum") / total(metrics, "setpoint_batch_rows_count"),
        retries=total(metrics, "setpoint_request_retries_total"),
        restarts=by_label(metrics, "setpoint_worker_restarts_total", "reason"),
        accepted=total(metrics, "setpoint_requests_accepted_total"),
        outcomes=outcomes_of(metrics),
        scrapes=tally.scrapes,
        node_rss_before_mib=rss_before_mib,
        node_rss_after_mib=rss_after_mib,
        node_descriptors_before=descriptors_before,
        node_descriptors_after=descriptors_after,
        failures=failures,
    )


@contextlib.contextmanager
def running(folder: Path, workers: int) -> Iterator[tuple[Node, list[str]]]:
    node, failures = Node(folder, workers), []
    try:
        yield node, failures
    finally:
        failures += node.end()


def less(after: list[tuple[dict[str, str], float]], before: list[tuple[dict[str, str], float]]):
    """Counters as they grew since."""
    known = {tuple(sorted(labels.items())): value for labels, value in before}
    return [(labels, value - known.get(tuple(sorted(labels.items())), 0)) for labels, value in after]


def await_workers(node: Node, workers: int) -> None:
    """Until every killed worker was replaced, so that before and after can be compared."""
    end_s = time.monotonic() + 20
    while len(node.workers) < workers and time.monotonic() < end_s:
        time.sleep(0.05)
    time.sleep(0.5)


def show(findings: Findings) -> None:
    rows = {
        "load": f"{findings.connections} connections, {findings.workers} workers, {findings.seconds:g} s",
        "kills": f"{findings.kills}, restarts counted {findings.restarts}",
        "requests": f"{findings.requests}  ({findings.requests_per_s:.0f}/s)",
        "statuses": ", ".join(f"{status} × {count}" for status, count in findings.statuses.items()),
        "latency": f"p50 {findings.p50_ms:.1f}  p99 {findings.p99_ms:.1f}  slowest {findings.slowest_ms:.0f} ms",
        "hangs": f"{findings.hangs} over {HANG_S:g} s",
        "batches": f"{findings.rows_per_batch:.1f} rows on average; {findings.retries} requests were tried again",
        "counters": f"accepted {findings.accepted}, outcomes {findings.outcomes}; looked at {findings.scrapes} times",
        "node": f"resident {findings.node_rss_before_mib:.1f} → {findings.node_rss_after_mib:.1f} MiB, "
        f"descriptors {findings.node_descriptors_before} → {findings.node_descriptors_after}",
        "verdict": "as it should be" if not findings.failures else "FAILED",
    }
    for label, text in rows.items():
        print(f"{label:<10}{text}")
    for reason, count in findings.reasons.items():
        print(f"{'':<10}{count} × 503: {reason}")
    for failure in findings.failures:
        print(f"{'':<10}{failure}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="setpoint-chaos-") as folder:
        findings = run(options.seconds, options.connections, options.workers, options.every, Path(folder))
    if options.json:
        print(msgspec.json.encode(findings).decode())
    else:
        show(findings)
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
