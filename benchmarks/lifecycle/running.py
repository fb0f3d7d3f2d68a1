"""A node in a process of its own, as these benchmarks start and ask it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from setpoint.machine import pss_bytes

TOKEN = "a-token-of-these-benchmarks"


class RunningNode:
    """``setpoint serve`` on a free port; ends with its ``with`` block."""

    def __init__(self, home: Path, models: Sequence[str], options: Sequence[str] = ()) -> None:
        begun = time.perf_counter()
        self.log = home / "node.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "setpoint", "serve", *models, "--port=0", "--json", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "SETPOINT_HOME": str(home), "SETPOINT_ADMIN_TOKEN": TOKEN},
            )
        assert self.process.stdout is not None
        announced = self.process.stdout.readline()
        if not announced:
            raise SystemExit(self.log.read_text())
        self.ready_s = time.perf_counter() - begun
        self.port = int(json.loads(announced)["url"].rpartition(":")[2])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def load(self, name: str) -> float:
        """Load a model; returns how many seconds that took."""
        begun = time.perf_counter()
        connection = self.connect()
        headers = {"authorization": f"Bearer {TOKEN}"}
        connection.request("POST", f"/v2/repository/models/{name}/load", headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200:
            raise SystemExit(f"load: {response.status} {body!r}")
        return time.perf_counter() - begun

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def processes(self) -> list[int]:
        """Its pid and those of its children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def pss_mib(self) -> float:
        """What all its processes hold, each shared page counted once."""
        return sum(map(pss_bytes, self.processes())) / 2**20

    def __enter__(self) -> RunningNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


def infer_body(shapes: dict[str, tuple[str, list[int]]]) -> bytes:
    """A V2 request of ones: input name → datatype and shape."""
    inputs: list[dict[str, Any]] = [
        {"name": name, "datatype": datatype, "shape": shape, "data": np.ones(shape).ravel().tolist()}
        for name, (datatype, shape) in shapes.items()
    ]
    for each in inputs:
        if each["datatype"].startswith("INT"):
            each["data"] = [int(value) for value in each["data"]]
    return json.dumps({"inputs": inputs}).encode()


def save_scaling_model(path: Path, factor: float, width: int) -> None:
    """``y = factor * x`` through a ``width``-square matrix, so that each model answers with its own number."""
    weights = numpy_helper.from_array(np.eye(width, dtype=np.float32) * np.float32(factor), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
