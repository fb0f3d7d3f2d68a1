"""The raw engine: onnxruntime in a plain loop, in a process of its own, with all cores.

    python benchmarks/wires/engine.py MODEL SECONDS BATCH [SCORES.npy]

Prints the number of images computed. With a fourth argument it also stores the scores of this benchmark's image.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import onnxruntime
from clients import image


def main() -> None:
    model, seconds, batch, *scores_path = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images = np.repeat(image(), int(batch), axis=0)
    (scores,) = session.run(None, {"image": images})
    if scores_path:
        np.save(scores_path[0], scores[0])
    computed, begun_s = 0, time.monotonic()
    while time.monotonic() - begun_s < float(seconds):
        session.run(None, {"image": images})
        computed += len(images)
    print(json.dumps({"images": computed, "seconds": time.monotonic() - begun_s}))


if __name__ == "__main__":
    main()
