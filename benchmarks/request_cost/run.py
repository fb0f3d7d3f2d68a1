"""What does one small request cost, here and in another commit? Nodes asked in turns, in many short rounds.

    python benchmarks/request_cost/run.py --against HEAD~20 [--connections 1,8,64] [--rounds 15] [--seconds 2]
    python benchmarks/request_cost/run.py --trees . ../other
    python benchmarks/request_cost/run.py --against HEAD~20 --instructions

README.md explains the columns. Needs wrk; with --instructions valgrind instead, which takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
WORKTREES = REPOSITORY / "build" / "request_cost"
ROTATE = REPOSITORY / "benchmarks" / "peers" / "rotate.lua"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COUNTED_REQUESTS = 6400
"""By valgrind: enough that what happens once does not show."""
FLOWERS = ([5.1, 3.5, 1.4, 0.2], [4.6, 3.1, 1.5, 0.2], [6.4, 3.2, 4.5, 1.5], [6.3, 3.3, 6.0, 2.5])


@dataclass(frozen=True)
class Cost:
    """Of one round, each per request but for the first and the last three."""

    requests_per_s: float
    node_us: float
    node_user_us: float
    node_sys_us: float
    worker_us: float
    worker_user_us: float
    worker_sys_us: float
    node_switches: float
    worker_switches: float
    batch_rows: float
    p50_us: float
    p99_us: float


def save_model(path: Path) -> None:
    """Softmax of a linear map and its class, four features to three: as small as a served model gets."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "flowers",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def bodies_of(route: str) -> list[bytes]:
    """Requests of one row, in V2 JSON or native JSON."""
    if route == "native":
        return [json.dumps({"features": [flower]}).encode() for flower in FLOWERS]
    tensors = [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": flower} for flower in FLOWERS]
    return [json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode() for tensor in tensors]


def path_of(route: str) -> str:
    return "/models/flowers/predict" if route == "native" else "/v2/models/flowers/infer"


def tree_of(reference: str) -> Path:
    """A worktree of that commit under build/, made once."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", f"{reference}^{{commit}}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    tree = WORKTREES / commit
    if not tree.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=REPOSITORY, check=True)
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=REPOSITORY, check=True)
    return tree


class Node:
    """A served tree."""

    def __init__(self, tree: Path, model: Path, home: Path, before: tuple[str, ...] = ()) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree / "src"),
            "SETPOINT_HOME": str(home),
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONHASHSEED": "0",
        }
        command = [*before, sys.executable, "-m", "setpoint", "serve", str(model), "--name", "flowers"]
        command += ["--port", "0", "--json", "--workers", "1", "--threads", "2"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True, cwd=home
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{tree} does not serve: {self.process.communicate()[1].strip()[-400:]}")
        self.url: str = json.loads(line)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.node = self.process.pid
        self.workers = children_of(self.node)

    def seen(self) -> Seen:
        return Seen(Used.of([self.node]), Used.of(self.workers), *self._batches())

    def _batches(self) -> tuple[float, float]:
        page = urllib.request.urlopen(f"{self.url}/metrics", timeout=10).read().decode()
        found = [
            re.search(rf"^setpoint_batch_rows_{kind}\{{.*\}} ([0-9.e+]+)$", page, re.M) for kind in ("sum", "count")
        ]
        return tuple(float(each[1]) if each else 0.0 for each in found)  # type: ignore[return-value]

    def stop(self) -> str:
        """End it; returns what it wrote to standard error."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=600)[1]


@dataclass(frozen=True)
class Used:
    """What some processes have used so far; the scheduler's nanoseconds, and the ticks that tell user from system."""

    run_us: float
    user_us: float
    sys_us: float
    switches: int

    @classmethod
    def of(cls, pids: list[int]) -> Used:
        run_ns = switches = user = system = 0
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                run_ns += int((task / "schedstat").read_text().split()[0])
                status = (task / "status").read_text()
                switches += sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", status))
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(stat[11]), system + int(stat[12])
        return cls(run_ns / 1e3, user / TICKS_PER_S * 1e6, system / TICKS_PER_S * 1e6, switches)


@dataclass(frozen=True)
class Seen:
    """A node at one moment."""

    node: Used
    workers: Used
    batch_rows: float
    batches: float


def children_of(pid: int) -> list[int]:
    """All below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children_of(child)]
    return found


def ask(node: Node, route: str, bodies: Path, connections: int, seconds: int) -> Cost:
    """One round."""
    before = node.seen()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(ROTATE), node.url, "--"]
    done = subprocess.run([*command, path_of(route), str(bodies)], capture_output=True, text=True, check=True)
    after = node.seen()
    said = json.loads(next(line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")))
    if errors := sum(said[kind] for kind in ("non_2xx", "connect", "read", "write", "timeout")):
        raise SystemExit(f"{errors} of {said['requests']} requests failed")
    requests = said["requests"]
    batches = after.batches - before.batches
    return Cost(
        requests_per_s=requests / said["duration_us"] * 1e6,
        node_us=(after.node.run_us - before.node.run_us) / requests,
        node_user_us=(after.node.user_us - before.node.user_us) / requests,
        node_sys_us=(after.node.sys_us - before.node.sys_us) / requests,
        worker_us=(after.workers.run_us - before.workers.run_us) / requests,
        worker_user_us=(after.workers.user_us - before.workers.user_us) / requests,
        worker_sys_us=(after.workers.sys_us - before.workers.sys_us) / requests,
        node_switches=(after.node.switches - before.node.switches) / requests,
        worker_switches=(after.workers.switches - before.workers.switches) / requests,
        batch_rows=(after.batch_rows - before.batch_rows) / batches if batches else 0.0,
        p50_us=said["p50_us"],
        p99_us=said["p99_us"],
    )


COLUMNS = (
    "tree",
    "req/s",
    "node µs",
    "user",
    "sys",
    "worker µs",
    "user",
    "sys",
    "node sw",
    "worker sw",
    "rows",
    "p50",
    "p99",
)


def row(name: str, values: list[float], form: str) -> str:
    return f"{name:24}" + "".join(f"{format(value, form):>11}" for value in values)


def compare(
    trees: list[Path], route: str, connections: int, nodes: list[Node], bodies: Path, rounds: int, seconds: int
) -> None:
    """Print medians, and the median of each round's ratios to the first tree."""
    costs: list[list[Cost]] = [[] for _ in trees]
    for index in range(rounds):
        for place in range(len(trees)):
            at = (index + place) % len(trees)  # nobody is always asked behind the same one
            costs[at].append(ask(nodes[at], route, bodies, connections, seconds))
    names = [field.name for field in fields(Cost)]
    print(f"\n{route}, {connections} connections, {rounds} rounds of {seconds} s")
    print(f"{COLUMNS[0]:24}" + "".join(f"{column:>11}" for column in COLUMNS[1:]))
    for tree, own in zip(trees, costs, strict=True):
        print(row(tree.name[-24:], [statistics.median(getattr(cost, name) for cost in own) for name in names], ".4g"))
    for tree, own in zip(trees[1:], costs[1:], strict=True):
        ratios = [
            statistics.median(
                getattr(cost, name) / getattr(first, name)
                for cost, first in zip(own, costs[0], strict=True)
                if getattr(first, name)
            )
            for name in names
        ]
        print(row(f"{tree.name[-13:]} ÷ {trees[0].name[-8:]}", ratios, ".3f"), flush=True)


async def drive(port: int, route: str, requests: int, connections: int) -> None:
    """As many requests over as many connections, each asking again when it is answered."""

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        bodies = bodies_of(route)
        for turn in range(requests // connections):
            body = bodies[(number + turn) % len(bodies)]
            head = f"POST {path_of(route)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            answer = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", answer)
            if not answer.startswith(b"HTTP/1.1 200") or found is None:
                raise SystemExit(f"a request failed: {answer[:200]!r}")
            await reader.readexactly(int(found[1]))
        writer.close()

    await asyncio.gather(*(one(number) for number in range(connections)))


def instructions(tree: Path, model: Path, home: Path, route: str, connections: int) -> float:
    """Instructions of node and worker a request, in user space: the difference of a longer run to a shorter one."""
    counted = []
    for requests in (connections * 10, connections * 10 + COUNTED_REQUESTS):
        node = Node(
            tree, model, home, ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
        )
        asyncio.run(drive(node.port, route, requests, connections))
        found = re.search(r"I\s+refs:\s+([\d,]+)", node.stop())
        assert found is not None, "cachegrind says how many at its end"
        counted.append(int(found[1].replace(",", "")))
    return (counted[1] - counted[0]) / COUNTED_REQUESTS


@contextlib.contextmanager
def nodes_of(trees: list[Path], model: Path, folder: Path) -> Iterator[list[Node]]:
    nodes: list[Node] = []
    try:
        for index, tree in enumerate(trees):
            home = folder / str(index)
            home.mkdir()
            nodes.append(Node(tree, model, home))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--against", nargs="+", metavar="REF", help="commits to compare this checkout with")
    which.add_argument(
        "--trees", nargs="+", metavar="FOLDER", help="checkouts; the first is what the others are compared with"
    )
    parser.add_argument("--connections", default="1,8,64")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--routes", default="v2", help="comma-separated: v2, native")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead of processor time")
    arguments = parser.parse_args()
    trees = [Path(tree).resolve() for tree in arguments.trees or ()]
    if arguments.against:
        trees = [*map(tree_of, arguments.against), REPOSITORY]
    needed = "valgrind" if arguments.instructions else "wrk"
    if shutil.which(needed) is None:
        raise SystemExit(f"{needed} is not installed")
    connections = [int(count) for count in arguments.connections.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "flowers.onnx"
        save_model(model)
        began = time.monotonic()
        if arguments.instructions:
            for route in arguments.routes.split(","):
                for count in connections:
                    for index, tree in enumerate(trees):
                        home = folder / f"{route}-{count}-{index}"
                        home.mkdir()
                        seen = instructions(tree, model, home, route, count)
                        print(
                            f"{route}, {count} connections, {tree.name}: {seen:,.0f} instructions a request", flush=True
                        )
            return
        with nodes_of(trees, model, folder) as nodes:
            for route in arguments.routes.split(","):
                bodies = folder / f"{route}.txt"
                bodies.write_bytes(b"\n".join(bodies_of(route)) + b"\n")
                for node in nodes:
                    ask(node, route, bodies, 8, 2)  # sizes are learned, allocators have what they need
                for count in connections:
                    compare(trees, route, count, nodes, bodies, arguments.rounds, arguments.seconds)
        print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
