"""Closed-loop clients, one per way in. Run as a process of its own, so that it shares no lock with what it measures.

    python benchmarks/wires/clients.py WIRE HTTP_HOST:PORT GRPC_HOST:PORT SECONDS CONNECTIONS SCORES.npy

Each connection sends the same image again and again, encoded beforehand: what is measured is the server and the kernel.
Every answer is read and compared with the engine's own scores. Prints the number of images answered.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path

import grpc
import numpy as np
from resnet import IMAGE

from setpoint.wire.grpc import message_class

Ask = Callable[[], np.ndarray]
PATH = "/v2/models/resnet18/infer"
TOLERANCE = 1e-3


def image() -> np.ndarray:
    """The one image of this benchmark."""
    return np.random.default_rng(224).random((1, *IMAGE), np.float32)


def _post(
    address: str, body: bytes, headers: dict[str, str], path: str = PATH
) -> Callable[[], http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(address, timeout=120)

    def post() -> http.client.HTTPResponse:
        connection.request("POST", path, body, headers)
        return connection.getresponse()

    return post


def json_client(http_address: str, _: str) -> Ask:
    """Flat ``data``, written as ``json.dumps`` writes float32 turned into Python numbers: 3 MB an image."""
    tensor = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32", "data": image().reshape(-1).tolist()}
    post = _post(http_address, json.dumps({"inputs": [tensor]}).encode(), {"content-type": "application/json"})

    def ask() -> np.ndarray:
        return np.array(json.loads(post().read())["outputs"][0]["data"], np.float32)

    return ask


def binary_client(http_address: str, _: str) -> Ask:
    """Triton's binary tensor data extension, both ways: 602 KB an image."""
    tensor = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": image().nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    post = _post(http_address, head + image().tobytes(), headers)

    def ask() -> np.ndarray:
        response = post()
        return np.frombuffer(response.read()[int(response.headers["Inference-Header-Content-Length"]) :], np.float32)

    return ask


def grpc_client(_: str, grpc_address: str) -> Ask:
    """Raw contents, both ways: 602 KB an image."""
    request = message_class("inference.ModelInferRequest")(
        model_name="resnet18", raw_input_contents=[image().tobytes()]
    )
    request.inputs.add(name="image", datatype="FP32", shape=[1, *IMAGE])
    body = request.SerializeToString()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    # One connection for each client, as over HTTP: channels to one address share one otherwise.
    channel = grpc.insecure_channel(grpc_address, [*options, ("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    answer = message_class("inference.ModelInferResponse")

    def ask() -> np.ndarray:
        return np.frombuffer(answer.FromString(call(body)).raw_output_contents[0], np.float32)

    return ask


_regions = itertools.count()
_memory: list[shared_memory.SharedMemory] = []


def shared_client(http_address: str, _: str) -> Ask:
    """The image lies in memory that the node reads too; the scores come back binary."""
    memory = shared_memory.SharedMemory(create=True, size=image().nbytes)
    _memory.append(memory)
    memory.buf[:] = image().tobytes()
    name = f"image-{os.getpid()}-{next(_regions)}"
    place = json.dumps({"key": f"/{memory.name}", "offset": 0, "byte_size": memory.size}).encode()
    path = f"/v2/systemsharedmemory/region/{name}/register"
    response = _post(http_address, place, {}, path)()
    assert response.status == 200, response.read()
    tensor = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32"}
    tensor["parameters"] = {"shared_memory_region": name, "shared_memory_byte_size": image().nbytes}
    body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    post = _post(http_address, body, {"content-type": "application/json"})

    def ask() -> np.ndarray:
        answer = post()
        return np.frombuffer(answer.read()[int(answer.headers["Inference-Header-Content-Length"]) :], np.float32)

    return ask


WIRES: dict[str, Callable[[str, str], Ask]] = {
    "json": json_client,
    "binary": binary_client,
    "grpc": grpc_client,
    "shared": shared_client,
}


def main() -> None:
    wire, http_address, grpc_address, seconds, connections, scores_path = sys.argv[1:]
    expected = np.load(Path(scores_path)).reshape(-1)
    asks = [WIRES[wire](http_address, grpc_address) for _ in range(int(connections))]
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
    for memory in _memory:
        memory.close()
        memory.unlink()
    if failures:
        raise failures[0]
    print(json.dumps({"images": sum(done), "seconds": time.monotonic() - begun_s}))


if __name__ == "__main__":
    main()
