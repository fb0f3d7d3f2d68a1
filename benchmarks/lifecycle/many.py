"""Two hundred models on one node within a bound of memory: does each answer, and is the bound kept?

    python benchmarks/lifecycle/many.py --models 200 --memory 2GiB --mib 16

Each model has weights of its own (--mib) and answers with its own number. All are asked once in a row, then again and
again at random, a few far more often than the rest, by several clients at once. What all processes hold together is
measured all the time. Exit code 1 if an answer was wrong or missing, or memory was above the bound by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from running import RunningNode, infer_body, save_scaling_model

from setpoint.cli.units import ByteSize
from setpoint.formats import PackOptions, pack
from setpoint.registry import Registry


class Client(threading.Thread):
    """Asks for the models it is given, one after the other."""

    def __init__(self, node: RunningNode, width: int, numbers: list[int], tally: Tally) -> None:
        super().__init__()
        self.node, self.numbers, self.tally = node, numbers, tally
        self.body = infer_body({"x": ("FP32", [1, width])})

    def run(self) -> None:
        connection = self.node.connect()
        for number in self.numbers:
            begun = time.perf_counter()
            path = f"/v2/models/m{number:03}/infer"
            connection.request("POST", path, self.body, {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            self.tally.took_ms.append(1e3 * (time.perf_counter() - begun))
            self.tally.statuses[response.status] += 1
            if response.status != 200:
                self.tally.wrong.append(f"m{number:03}: {response.status} {content[:200]!r}")
            elif json.loads(content)["outputs"][0]["data"][0] != float(number):
                self.tally.wrong.append(f"m{number:03} answered with another model's number")
        connection.close()


class Tally:
    """What clients saw."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.took_ms: list[float] = []


class Scales(threading.Thread):
    """Weighs the node's processes until told to stop."""

    def __init__(self, node: RunningNode) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.stopped = threading.Event()
        self.most_mib = 0.0
        self.most_processes = 0

    def run(self) -> None:
        while not self.stopped.wait(0.25):
            self.most_mib = max(self.most_mib, self.node.pss_mib())
            self.most_processes = max(self.most_processes, len(self.node.processes()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--mib", type=float, default=16.0, help="of each model's weights")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2000, help="at random, after every model was asked once")
    options = parser.parse_args()
    width = int(math.sqrt(options.mib * 2**20 / 4))
    bound_mib = ByteSize().convert(options.memory, None, None) / 2**20
    names = [f"m{number:03}" for number in range(1, options.models + 1)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for number, name in enumerate(names, 1):
            # In this process: a process for each would take minutes, and is not what is measured.
            with tempfile.TemporaryDirectory() as workdir:
                save_scaling_model(Path(workdir) / "source.onnx", number, width)
                packed = pack(Path(workdir) / "source.onnx", PackOptions(), Path(workdir))
                Registry(home).add(packed, name)
        print(f"{options.models} models of {options.mib:g} MiB each, {options.memory}", flush=True)
        with RunningNode(home, names, [f"--memory={options.memory}", "--threads=1"]) as node:
            print(f"ready after {node.ready_s:.1f} s", flush=True)
            scales = Scales(node)
            scales.start()
            tallies = {"each once": one_round(node, width, list(range(1, options.models + 1)), 1)}
            generator = random.Random(1)
            skewed = [min(options.models, int(generator.paretovariate(0.8))) for _ in range(options.requests)]
            tallies["at random"] = one_round(node, width, skewed, options.clients)
            wakes, parks = node.metric("setpoint_model_wakes_total"), node.metric("setpoint_model_parks_total")
            node_mib = node.metric('setpoint_resident_bytes{process="node"}') / 2**20
            scales.stopped.set()
            scales.join()
    for title, tally in tallies.items():
        tally.took_ms.sort()
        statuses = ", ".join(f"{count} × {status}" for status, count in sorted(tally.statuses.items()))
        p95_ms = tally.took_ms[int(0.95 * len(tally.took_ms))]
        median_ms = statistics.median(tally.took_ms)
        print(f"{title:10} {statuses}")
        print(f"{'':10} median {median_ms:.1f} ms, 95th {p95_ms:.0f} ms, longest {tally.took_ms[-1]:.0f} ms")
    print(f"wakes {wakes:.0f}, parks {parks:.0f}; at most {scales.most_processes - 2} workers at once")
    print(
        f"at most {scales.most_mib:.0f} of {bound_mib:.0f} MiB in all processes together; the node {node_mib:.0f} MiB"
    )
    wrong = [message for tally in tallies.values() for message in tally.wrong]
    for message in wrong[:5]:
        print(f"  {message}")
    return 1 if wrong or scales.most_mib > 1.05 * bound_mib else 0


def one_round(node: RunningNode, width: int, numbers: list[int], clients: int) -> Tally:
    """Ask for these models, shared between so many clients."""
    tally = Tally()
    threads = [Client(node, width, numbers[start::clients], tally) for start in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


if __name__ == "__main__":
    raise SystemExit(main())
