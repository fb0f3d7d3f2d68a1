"""How much of the raw engine's images/s is left behind each way in, and who uses the CPU time?

A ResNet-18-sized model takes an image of 1 × 3 × 224 × 224 (602 KB as bytes, 3 MB as JSON). The engine in a plain loop,
and a node asked over each wire, take turns in one run, several rounds; only one of them works at a time. Answers are
checked.

    python benchmarks/wires/run.py [--rounds 5] [--seconds 8] [--connections 8] [--wires json,binary] [--json]
                                   [--workers 2 --threads 1]

The engine's loop has every form that may be the best on a machine: one process with all cores or a process for each
core, an image a call or eight; the best form of a round is what its wires are compared with. The node has a worker for
each core unless told otherwise: threads of one run wait for each other, and node and client would stop both.

Ratios are of the same round, so that a machine that is slower for a while is slower for both; printed is their median,
and the lowest and the highest. Where others use the machine too, images/s say nothing, and CPU time still does: "by
CPU" is the engine's CPU time for an image, as a share of what node, workers and client used for one together. The node
is charged for what it does without requests, too, which weighs the more the fewer images/s there are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import onnx
from clients import WIRES
from resnet import resnet18

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0))
FORMS = sorted({(processes, CORES // processes, batch) for processes in (1, CORES) for batch in (1, 8)})
"""Of the raw loop: processes, threads of each, images a call."""


class Turn(msgspec.Struct):
    """What one of them did in its turn.

    Attributes:
        rate: images/s.
        cpu_ms: milliseconds of CPU time for one image, by process.
    """

    rate: float
    cpu_ms: dict[str, float]

    @property
    def total_cpu_ms(self) -> float:
        """Of all of them."""
        return sum(self.cpu_ms.values())


class Node(msgspec.Struct):
    """A node that serves the model."""

    pid: int
    http: str
    grpc: str

    def cpu_ms(self) -> dict[str, float]:
        """CPU milliseconds used so far."""
        used = {"node": 0.0, "worker": 0.0}
        for pid in _family(self.pid):
            used["node" if pid == self.pid else "worker"] += time.clock_gettime((~pid << 3) | 2) * 1e3
        return used


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def engine_turn(model: Path, seconds: float, form: tuple[int, int, int], *scores: Path) -> Turn:
    """One form of the raw loop."""
    processes, threads, batch = form
    command = _program("engine.py", model, seconds, batch, threads, *scores)
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    said = [json.loads(process.communicate()[0]) for process in running]
    rate = sum(one["images"] / one["seconds"] for one in said)
    cpu_ms = sum(one["cpu_ms"] * one["images"] for one in said) / max(1, sum(one["images"] for one in said))
    return Turn(rate, {"engine": cpu_ms})


def wire_turn(wire: str, node: Node, seconds: float, connections: int, scores: Path) -> Turn:
    """One way into the node."""
    before = node.cpu_ms()
    command = _program("clients.py", wire, node.http, node.grpc, seconds, connections, scores)
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cpu_ms = {name: (used - before[name]) / max(1, said["images"]) for name, used in node.cpu_ms().items()}
    return Turn(said["images"] / said["seconds"], {**cpu_ms, "client": said["cpu_ms"]})


@contextlib.contextmanager
def node(model: Path, home: Path, workers: int, threads: int) -> Iterator[Node]:
    """A node that serves the model."""
    command = [sys.executable, "-m", "setpoint", "serve", str(model), "--json", "--port=0", "--grpc-port=0"]
    command += ["--shared-memory", f"--workers={workers}", f"--threads={threads}"]
    environment = {**os.environ, "SETPOINT_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        try:
            yield Node(process.pid, urlsplit(announced["url"]).netloc, announced["grpc"])
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--wires", default=",".join(WIRES))
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    wires = asked.wires.split(",")
    raw: dict[str, list[Turn]] = {}
    turns: dict[str, list[Turn]] = {wire: [] for wire in wires}
    with tempfile.TemporaryDirectory() as folder:
        model, scores = Path(folder) / "resnet18.onnx", Path(folder) / "scores.npy"
        onnx.save(resnet18(), model)
        engine_turn(model, 0, (1, CORES, 1), scores)
        with node(model, Path(folder) / "home", asked.workers, asked.threads) as served:
            for wire in wires:  # the node learns its batch sizes before anything counts
                wire_turn(wire, served, asked.seconds / 2, asked.connections, scores)
            for _ in range(asked.rounds):
                for form in FORMS:
                    name = f"{form[0]}×{form[1]} b{form[2]}"
                    raw.setdefault(name, []).append(engine_turn(model, asked.seconds / 2, form))
                for wire in wires:
                    turns[wire].append(wire_turn(wire, served, asked.seconds, asked.connections, scores))
    if asked.as_json:
        print(json.dumps(msgspec.to_builtins({"engine": raw, "wires": turns})))
    else:
        report(raw, turns, f"{asked.workers}×{asked.threads}")


def report(raw: dict[str, list[Turn]], turns: dict[str, list[Turn]], shape: str) -> None:
    """Print what was measured."""
    rounds = list(zip(*raw.values(), strict=True))
    best = [max(forms, key=lambda turn: turn.rate).rate for forms in rounds]
    least_cpu_ms = [min(turn.total_cpu_ms for turn in forms) for forms in rounds]
    print(f"{'engine':16} images/s   of the best      CPU ms an image   (node: {shape} workers × threads)")
    for name, measured in raw.items():
        rate, cpu_ms = _median(turn.rate for turn in measured), _median(turn.total_cpu_ms for turn in measured)
        print(f"{name:16} {rate:8.1f} {'':14} {cpu_ms:9.2f}")
    print(f"{'wire':16} images/s   of the best      node  worker  client     all   by CPU")
    for wire, measured in turns.items():
        ratios = [turn.rate / rate for turn, rate in zip(measured, best, strict=True)]
        by_cpu = [least / turn.total_cpu_ms for turn, least in zip(measured, least_cpu_ms, strict=True)]
        spread = f"{statistics.median(ratios):4.0%} ({min(ratios):.0%} to {max(ratios):.0%})"
        parts = [_median(turn.cpu_ms[part] for turn in measured) for part in ("node", "worker", "client")]
        print(
            f"{wire:16} {_median(turn.rate for turn in measured):8.1f}   {spread:15}"
            f"{parts[0]:7.2f} {parts[1]:7.2f} {parts[2]:7.2f} {_median(turn.total_cpu_ms for turn in measured):7.2f}"
            f"   {statistics.median(by_cpu):4.0%} ({min(by_cpu):.0%} to {max(by_cpu):.0%})"
        )


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
