"""Closed-loop clients, one per way in. Run as a process of its own, so that it shares no lock with what it measures.

    python benchmarks/wires/clients.py WIRE HTTP_HOST:PORT GRPC_HOST:PORT SECONDS CONNECTIONS SCORES.npy

Each connection sends the same request again and again, made beforehand, head and all: what is measured is the server
and the kernel. Every answer is read. Its bytes must be those of an answer that was compared with the engine's own
scores; bytes never seen before are compared first. Prints the number of images answered, the seconds they took, and
the CPU milliseconds that this process used for one.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path

import grpc
import numpy as np
import orjson
from numpy.typing import NDArray
from resnet import IMAGE

from setpoint.wire.grpc import message_class

Scores = NDArray[np.float32]
Ask = Callable[[], bytes]
Read = Callable[[bytes], Scores]
TENSOR = {"name": "image", "shape": [1, *IMAGE], "datatype": "FP32"}
PATH = "/v2/models/resnet18/infer"
TOLERANCE = 1e-3
_PIECE_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"


def image() -> Scores:
    """The one image of this benchmark."""
    return np.random.default_rng(224).random((1, *IMAGE), np.float32)


def _asking(address: str, body: bytes, headers: dict[str, str], path: str = PATH) -> Ask:
    """A connection that asks this and reads the answer's body; no library between it and the kernel."""
    lines = [f"POST {path} HTTP/1.1", f"host: {address}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    message = "\r\n".join(lines).encode() + _HEAD_END + body
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> bytes:
        connection.sendall(message)
        received = connection.recv(_PIECE_BYTES)
        while (head := received.find(_HEAD_END)) < 0:
            received += _more(connection)
        assert received.startswith(b"HTTP/1.1 200 "), received[:500]
        length = received.lower().index(b"content-length:") + len("content-length:")
        end = head + len(_HEAD_END) + int(received[length : received.index(b"\r", length)])
        while len(received) < end:
            received += _more(connection)
        return received[head + len(_HEAD_END) :]

    return ask


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(_PIECE_BYTES)
    assert piece, "the node closed the connection within an answer"
    return piece


def _json_scores(body: bytes) -> Scores:
    return np.array(orjson.loads(body)["outputs"][0]["data"], np.float32)


def _binary_scores(body: bytes) -> Scores:
    return np.frombuffer(body[-1000 * 4 :], np.float32)


def json_client(http_address: str, _: str) -> tuple[Ask, Read]:
    """Flat ``data`` as tritonclient and ``json.dumps`` write float32 turned into Python numbers: 3 MB an image."""
    body = json.dumps({"inputs": [{**TENSOR, "data": image().reshape(-1).tolist()}]}).encode()
    return _asking(http_address, body, {"content-type": "application/json"}), _json_scores


def short_client(http_address: str, _: str) -> tuple[Ask, Read]:
    """Flat ``data`` with no more digits than float32 needs, as orjson writes it: 1.6 MB an image."""
    body = orjson.dumps({"inputs": [{**TENSOR, "data": image().reshape(-1)}]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return _asking(http_address, body, {"content-type": "application/json"}), _json_scores


def binary_client(http_address: str, _: str) -> tuple[Ask, Read]:
    """Triton's binary tensor data extension, both ways: 602 KB an image."""
    tensor = {**TENSOR, "parameters": {"binary_data_size": image().nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return _asking(http_address, head + image().tobytes(), headers), _binary_scores


def grpc_client(_: str, grpc_address: str) -> tuple[Ask, Read]:
    """Raw contents, both ways: 602 KB an image, through Python's gRPC."""
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
    return lambda: call(body), lambda said: np.frombuffer(answer.FromString(said).raw_output_contents[0], np.float32)


_regions = itertools.count()
_memory: list[shared_memory.SharedMemory] = []


def shared_client(http_address: str, _: str) -> tuple[Ask, Read]:
    """The image lies in memory that the node reads too; the scores come back binary."""
    memory = shared_memory.SharedMemory(create=True, size=image().nbytes)
    _memory.append(memory)
    memory.buf[:] = image().tobytes()
    name = f"image-{os.getpid()}-{next(_regions)}"
    place = json.dumps({"key": f"/{memory.name}", "offset": 0, "byte_size": memory.size}).encode()
    _asking(http_address, place, {}, f"/v2/systemsharedmemory/region/{name}/register")()
    tensor = {
        **TENSOR,
        "parameters": {"shared_memory_region": name, "shared_memory_byte_size": image().nbytes},
    }
    body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return _asking(http_address, body, {"content-type": "application/json"}), _binary_scores


WIRES: dict[str, Callable[[str, str], tuple[Ask, Read]]] = {
    "json": json_client,
    "short": short_client,
    "binary": binary_client,
    "grpc": grpc_client,
    "shared": shared_client,
}


def main() -> None:
    wire, http_address, grpc_address, seconds, connections, scores_path = sys.argv[1:]
    expected = np.load(Path(scores_path)).reshape(-1)
    clients = [WIRES[wire](http_address, grpc_address) for _ in range(int(connections))]
    known: set[bytes] = set()
    done: list[int] = []
    failures: list[BaseException] = []

    def loop(ask: Ask, read: Read) -> None:
        answered = 0
        try:
            while time.monotonic() - begun_s < float(seconds):
                said = ask()
                if said not in known:
                    np.testing.assert_allclose(read(said), expected, rtol=TOLERANCE, atol=TOLERANCE)
                    known.add(said)
                answered += 1
        except BaseException as error:  # a thread's error must end the run, not the thread
            failures.append(error)
        done.append(answered)

    threads = [threading.Thread(target=loop, args=client) for client in clients]
    begun_s, cpu_s = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
    for memory in _memory:
        memory.close()
        memory.unlink()
    if failures:
        raise failures[0]
    print(json.dumps({"images": sum(done), "seconds": took_s, "cpu_ms": cpu_s * 1e3 / max(1, sum(done))}))


if __name__ == "__main__":
    main()
