"""The raw engine: onnxruntime in a plain loop, in a process of its own.

    python benchmarks/wires/engine.py MODEL SECONDS BATCH THREADS [SCORES.npy]

Says so when it is ready, begins when its standard input is closed, and prints the number of images computed, the
seconds they took and the CPU milliseconds of one. With a fifth argument it also stores the scores of this benchmark's
image.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime
from clients import image


def main() -> None:
    model, seconds, batch, threads, *scores_path = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images = np.repeat(image(), int(batch), axis=0)
    (scores,) = session.run(None, {"image": images})
    if scores_path:
        np.save(scores_path[0], scores[0])
    print("ready", flush=True)
    sys.stdin.read()
    computed, begun_s, cpu_s = 0, time.monotonic(), time.process_time()
    while time.monotonic() - begun_s < float(seconds):
        session.run(None, {"image": images})
        computed += len(images)
    took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
    print(json.dumps({"images": computed, "seconds": took_s, "cpu_ms": cpu_s * 1e3 / max(1, computed)}))


if __name__ == "__main__":
    main()
