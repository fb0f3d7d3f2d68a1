"""The engine's own ceiling: onnxruntime in a plain loop, without a server, at each batch size.

Runs in the `tools` environment and prints one JSON object {batch: rows per second}:

    build/venvs/tools/bin/python benchmarks/peers/ceilings.py MODEL CASES --threads 2 --seconds 1
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime

BATCHES = (1, 2, 4, 8, 16, 32, 64)
DTYPES = {"FP32": np.float32, "INT64": np.int64}


def rows_per_second(model: str, cases: Path, threads: int, seconds: float) -> dict[int, float]:
    """Rows/s by batch size, each measured for `seconds` after a warm-up, on the same rows that the servers get."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = json.loads(cases.read_text())
    reached = {}
    for batch in BATCHES:
        picked = [rows[index % len(rows)] for index in range(batch)]
        feed = {
            name: np.array([row["inputs"][name] for row in picked], dtype=DTYPES[datatype])
            for name, datatype in rows[0]["datatypes"].items()
        }
        for _ in range(3):
            session.run(None, feed)
        runs = 0
        started_ns = time.perf_counter_ns()
        end_ns = started_ns + int(seconds * 1e9)
        while time.perf_counter_ns() < end_ns:
            session.run(None, feed)
            runs += 1
        reached[batch] = runs * batch / ((time.perf_counter_ns() - started_ns) / 1e9)
    return reached


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    print(json.dumps(rows_per_second(arguments.model, arguments.cases, arguments.threads, arguments.seconds)))
