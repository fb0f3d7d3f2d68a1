"""The engine in a plain loop, in a process of its own: what the worker's figures are compared with.

``python -m setpoint.optimize.raw`` reads a ``Plan`` from the first line of stdin, then one ``Order`` a line, and
answers each with a line of run times in milliseconds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from setpoint.engines import EngineOptions, load_executable
from setpoint.optimize.bench import Order, Plan
from setpoint.optimize.feed import Feed


def main() -> None:
    """Serve orders until stdin ends."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    signature = plan.manifest.signature
    assert signature is not None
    variant = next(each for each in plan.manifest.variants if each.name == plan.variant)
    executable = load_executable(variant, Path(plan.folder), EngineOptions(threads=plan.threads, device=plan.device))
    with np.load(plan.rows, allow_pickle=False) as archive:
        arrays = [archive[spec.name] for spec in signature.inputs]
    feed = Feed(arrays, signature, limit_rows=1 << 20)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        batch = feed.batch(order.rows, order.number)
        named = {spec.name: array for spec, array in zip(signature.inputs, batch, strict=True)}
        runs_ms = []
        for _ in range(order.count):
            start_ns = time.perf_counter_ns()
            executable.run(named)
            runs_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        answer.write(msgspec.json.encode(runs_ms) + b"\n")
        answer.flush()


if __name__ == "__main__":
    main()
