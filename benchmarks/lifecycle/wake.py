"""How long the first request to a parked model takes, MiniLM's by default: from its sending to its answer.

    python benchmarks/lifecycle/wake.py build/minilm/encoder.onnx --wakes 20

Two models of the file share memory for one, and are asked in turn, with pauses in which the node may park the other.
Beside it the time of a request to the model when it is awake. Exit code 1 if a wake took longer than --within.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from running import RunningNode, infer_body

from setpoint.registry import Registry, pack_source

SEQUENCE = 32
NAMES = ("one", "other")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--wakes", type=int, default=20)
    parser.add_argument("--memory", default="180MiB", help="that is enough for one of the two")
    parser.add_argument("--within", type=float, default=500.0, help="ms")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        registry = Registry(home)
        bundles = [pack_source(options.model, name=name, registry=registry)[0] for name in NAMES]
        signature = bundles[0].manifest.signature
        assert signature is not None
        shapes = {
            spec.name: (spec.datatype, [1, *[SEQUENCE if axis < 0 else axis for axis in spec.shape[1:]]])
            for spec in signature.inputs
        }
        body = infer_body(shapes)
        with RunningNode(home, NAMES, [f"--memory={options.memory}", "--threads=1"]) as node:
            cold_ms, warm_ms = measure(node, body, options.wakes)
            wakes, parks = node.metric("setpoint_model_wakes_total"), node.metric("setpoint_model_parks_total")
    print(f"wakes {wakes:.0f}, parks {parks:.0f}")
    print(
        f"first answer of a parked model   median {statistics.median(cold_ms):6.0f} ms   longest {max(cold_ms):6.0f} ms"
    )
    print(
        f"answer of an awake one           median {statistics.median(warm_ms):6.1f} ms   longest {max(warm_ms):6.1f} ms"
    )
    if max(cold_ms) > options.within:
        print(f"a wake took longer than {options.within:g} ms")
        return 1
    return 0


def measure(node: RunningNode, body: bytes, wakes: int) -> tuple[list[float], list[float]]:
    """Times of first and second requests, ms; a wake counts only if the model had been parked."""
    cold_ms: list[float] = []
    warm_ms: list[float] = []
    turn = 0
    time.sleep(10.0)  # after the node's own start, too, nobody has to stay awake
    while len(cold_ms) < wakes:
        name = NAMES[turn % 2]
        turn += 1
        before = node.metric("setpoint_model_wakes_total")
        first_ms = ask(node, name, body)
        if node.metric("setpoint_model_wakes_total") == before + 1:
            cold_ms.append(first_ms)
        warm_ms.append(ask(node, name, body))
        # Who was just woken is not parked before five times as long as its wake took: that is waited for here.
        time.sleep(min(1.2 + 6e-3 * first_ms, 11.0))
        if turn > 3 * wakes + 10:
            raise SystemExit("both models stay awake: give them less --memory")
    return cold_ms, warm_ms


def ask(node: RunningNode, name: str, body: bytes) -> float:
    """One request on a connection of its own, ms."""
    begun = time.perf_counter()
    connection = node.connect()
    connection.request("POST", f"/v2/models/{name}/infer", body, {"content-type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    elapsed_ms = 1e3 * (time.perf_counter() - begun)
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{response.status} {content[:300]!r}")
    return elapsed_ms


if __name__ == "__main__":
    raise SystemExit(main())
