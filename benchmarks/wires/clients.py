"""Closed-loop clients, one per way in. Run as a process of its own, so that it shares no lock with what it measures.

    python benchmarks/wires/clients.py WIRE HOST PORT SECONDS CONNECTIONS SCORES.npy

Each connection sends the same image again and again, encoded beforehand: what is measured is the server and the kernel.
Every answer is read and compared with the engine's own scores. Prints the number of images answered.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from resnet import IMAGE

Ask = Callable[[], np.ndarray]
PATH = "/v2/models/resnet18/infer"
TOLERANCE = 1e-3


def image() -> np.ndarray:
    """The one image of this benchmark."""
    return np.random.default_rng(224).random((1, *IMAGE), np.float32)


def _post(host: str, port: int, body: bytes, headers: dict[str, str]) -> Callable[[], http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(host, port, timeout=120)

    def post() -> http.client.HTTPResponse:
        connection.request("POST", PATH, body, headers)
        return connection.getresponse()

    return post


def json_client(host: str, port: int) -> Ask:
    """Flat ``data``, written as ``json.dumps`` writes float32 turned into Python numbers: 3 MB an image."""
    tensor = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32", "data": image().reshape(-1).tolist()}
    post = _post(host, port, json.dumps({"inputs": [tensor]}).encode(), {"content-type": "application/json"})

    def ask() -> np.ndarray:
        return np.array(json.loads(post().read())["outputs"][0]["data"], np.float32)

    return ask


def binary_client(host: str, port: int) -> Ask:
    """Triton's binary tensor data extension, both ways: 602 KB an image."""
    tensor = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": image().nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    post = _post(host, port, head + image().tobytes(), headers)

    def ask() -> np.ndarray:
        response = post()
        return np.frombuffer(response.read()[int(response.headers["Inference-Header-Content-Length"]) :], np.float32)

    return ask


WIRES: dict[str, Callable[[str, int], Ask]] = {"json": json_client, "binary": binary_client}


def main() -> None:
    wire, host, port, seconds, connections, scores_path = sys.argv[1:]
    expected = np.load(Path(scores_path)).reshape(-1)
    asks = [WIRES[wire](host, int(port)) for _ in range(int(connections))]
    done: list[int] = []
    failures: list[BaseException] = []
    begun_s = time.monotonic()

    def loop(ask: Ask) -> None:
        answered = 0
        try:
            while time.monotonic() - begun_s < float(seconds):
                np.testing.assert_allclose(ask(), expected, rtol=TOLERANCE, atol=TOLERANCE)
                answered += 1
        except BaseException as error:  # a thread's error must end the run, not the thread
            failures.append(error)
        done.append(answered)

    threads = [threading.Thread(target=loop, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    print(json.dumps({"images": sum(done), "seconds": time.monotonic() - begun_s}))


if __name__ == "__main__":
    main()
