"""How much of the raw engine's images/s is left behind each way in?

A ResNet-18-sized model takes an image of 1 × 3 × 224 × 224 (602 KB as bytes, 3 MB as JSON). The engine in a plain loop,
and a node asked over each wire, take turns in one run, several rounds; only one of them works at a time. Answers are
checked.

    python benchmarks/wires/run.py [--rounds 5] [--seconds 8] [--connections 8] [--wires json,binary] [--json]

Ratios are of the same round, so that a machine that is slower for a while is slower for both; printed is their median,
and the lowest and the highest.
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
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import onnx
from clients import WIRES
from resnet import resnet18

HERE = Path(__file__).resolve().parent
BATCHES = (1, 8)
"""Of the raw loop; the better one of a round counts."""


def measured(program: str, *arguments: object) -> float:
    """Images/s of one process's turn."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(said)
    return float(result["images"] / result["seconds"])


@contextlib.contextmanager
def node(model: Path, home: Path) -> Iterator[tuple[str, str]]:
    """A node that serves the model; yields its addresses for HTTP and for gRPC."""
    command = [sys.executable, "-m", "setpoint", "serve", str(model), "--json", "--port=0", "--grpc-port=0"]
    command.append("--shared-memory")
    environment = {**os.environ, "SETPOINT_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        try:
            yield urlsplit(announced["url"]).netloc, announced["grpc"]
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--wires", default=",".join(WIRES))
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    wires = asked.wires.split(",")
    rates: dict[str, list[float]] = {name: [] for name in ("engine", *wires)}
    with tempfile.TemporaryDirectory() as folder:
        model, scores = Path(folder) / "resnet18.onnx", Path(folder) / "scores.npy"
        onnx.save(resnet18(), model)
        measured("engine.py", model, 0, 1, scores)
        with node(model, Path(folder) / "home") as addresses:
            for wire in wires:  # the node learns its batch sizes before anything counts
                measured("clients.py", wire, *addresses, asked.seconds / 2, asked.connections, scores)
            for _ in range(asked.rounds):
                rates["engine"].append(max(measured("engine.py", model, asked.seconds / 2, batch) for batch in BATCHES))
                for wire in wires:
                    turn = measured("clients.py", wire, *addresses, asked.seconds, asked.connections, scores)
                    rates[wire].append(turn)
    if asked.as_json:
        print(json.dumps(rates))
        return
    print(f"engine   {statistics.median(rates['engine']):8.1f} images/s")
    for wire in wires:
        ratios = [rate / engine for rate, engine in zip(rates[wire], rates["engine"], strict=True)]
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{wire:8} {statistics.median(rates[wire]):8.1f} images/s   {median:4.0%} ({low:.0%} to {high:.0%})")


if __name__ == "__main__":
    main()
