"""A version swap every two seconds under load: does any request fail?

    python benchmarks/lifecycle/swap.py --seconds 60

Each version multiplies by its own number, so that every answer tells which one gave it, and is checked. Exit code 1 if
a request failed, an answer was wrong, or a version was reached after the one that replaced it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from pathlib import Path

from running import RunningNode, infer_body, save_scaling_model

from setpoint.registry import Registry, pack_source

WIDTH = 64


class Client(threading.Thread):
    """Asks without a pause on one connection."""

    def __init__(self, node: RunningNode, stop: threading.Event) -> None:
        super().__init__()
        self.node, self.stopped = node, stop
        self.answers = 0
        self.wrong: list[str] = []
        self.slowest_ms = 0.0
        self.versions: list[int] = []

    def run(self) -> None:
        body = infer_body({"x": ("FP32", [1, WIDTH])})
        connection = self.node.connect()
        while not self.stopped.is_set():
            begun = time.perf_counter()
            try:
                connection.request("POST", "/v2/models/scaling/infer", body, {"content-type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
                connection = self.node.connect()
                continue
            self.slowest_ms = max(self.slowest_ms, 1e3 * (time.perf_counter() - begun))
            self.answers += 1
            if response.status != 200:
                self.wrong.append(f"{response.status} {content[:200]!r}")
                continue
            answer = json.loads(content)
            version, values = int(answer["model_version"]), answer["outputs"][0]["data"]
            if values != [float(version)] * WIDTH:
                self.wrong.append(f"version {version} answered {values[:3]}")
            if not self.versions or self.versions[-1] != version:
                self.versions.append(version)
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        pack(home, 1)
        with RunningNode(home, ["scaling"]) as node:
            stop = threading.Event()
            clients = [Client(node, stop) for _ in range(options.clients)]
            for client in clients:
                client.start()
            took_s: list[float] = []
            end_s = time.monotonic() + options.seconds
            version = 1
            while time.monotonic() < end_s:
                next_s = time.monotonic() + options.every
                version += 1
                pack(home, version)
                took_s.append(node.load("scaling"))
                time.sleep(max(0.0, next_s - time.monotonic()))
            stop.set()
            for client in clients:
                client.join()
            time.sleep(1.0)
            left = len(node.processes()) - 2  # the node, and what workers are forked from
    answers = sum(client.answers for client in clients)
    wrong = [message for client in clients for message in client.wrong]
    disordered = [client.versions for client in clients if client.versions != sorted(client.versions)]
    print(f"{answers} requests, {len(wrong)} failed or wrong, {version - 1} swaps in {options.seconds:g} s")
    print(f"a load took {1e3 * sum(took_s) / len(took_s):.0f} ms, at most {1e3 * max(took_s):.0f} ms")
    print(
        f"the slowest answer took {max(client.slowest_ms for client in clients):.0f} ms; {left} worker left at the end"
    )
    for message in wrong[:5]:
        print(f"  {message}")
    for versions in disordered[:2]:
        print(f"  a client saw versions out of order: {versions}")
    return 1 if wrong or disordered or left != 1 else 0


def pack(home: Path, version: int) -> None:
    path = home / "scaling.onnx"
    save_scaling_model(path, version, WIDTH)
    bundle = pack_source(path, name="scaling", registry=Registry(home))[0]
    assert bundle.version == version


if __name__ == "__main__":
    raise SystemExit(main())
