"""Clients of the Open Inference Protocol over REST that we did not write, unmodified, each in a process of its own."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from environments import check_perf, python_of, run_program
from harness import RunningNode
from served_models import SOURCES, TOKEN

TRITON = [
    "health",
    "metadata",
    "config",
    "statistics",
    "infer",
    "outputs",
    "classification",
    "text",
    "half_floats",
    "empty",
    "compression",
    "terms",
    "errors",
    "asynchronous",
    "own_transport",
    "repository",
    "aio",
]
KSERVE = ["health", "infer", "binary_outputs", "text", "errors"]


@pytest.fixture(scope="module")
def node(serve: Callable[..., RunningNode]) -> Iterator[RunningNode]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SETPOINT_ADMIN_TOKEN", TOKEN)
        yield serve(SOURCES)


@pytest.mark.parametrize("call", TRITON)
def test_tritonclient(node: RunningNode, call: str) -> None:
    run_program(python_of("triton"), "triton_http.py", f"127.0.0.1:{node.port}", call, TOKEN)


@pytest.mark.parametrize("call", KSERVE)
def test_kserve(node: RunningNode, call: str) -> None:
    run_program(python_of("kserve"), "kserve_rest.py", f"http://127.0.0.1:{node.port}", call)


# --- mlserver infer --------------------------------------------------------------------------------------------------


def mlserver_infer(node: RunningNode, folder: Path, requests: list[object], *options: str) -> list[dict[str, object]]:
    """``mlserver infer``, a request a line in and an answer a line out."""
    asked, answered = folder / "requests.jsonl", folder / "answers.jsonl"
    asked.write_text("".join(json.dumps(request) + "\n" for request in requests))
    command = [python_of("mlserver").with_name("mlserver"), "infer", "-u", f"127.0.0.1:{node.port}", "-m", "twice"]
    command += ["-i", asked, "-o", answered, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(map(json.loads, answered.read_text().splitlines()), key=lambda answer: answer["id"])


@pytest.mark.parametrize("options", [(), ("--binary-data",), ("--batch-size", "4"), ("--workers", "3")], ids=" ".join)
def test_mlserver_infer(node: RunningNode, tmp_path: Path, options: tuple[str, ...]) -> None:
    rows = np.arange(40, dtype=np.float32).reshape(10, 1, 4)
    requests = [
        {
            "id": f"{number:02}",
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row.reshape(-1).tolist()}],
        }
        for number, row in enumerate(rows)
    ]
    answers = mlserver_infer(node, tmp_path, requests, *options)
    assert len(answers) == len(requests)
    for answer, row in zip(answers, rows, strict=True):
        outputs = {output["name"]: output for output in answer["outputs"]}  # type: ignore[attr-defined]
        assert np.array_equal(np.ravel(outputs["y"]["data"]), row.reshape(-1) * 2)


# --- perf_analyzer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency-range=2",),
        ("--concurrency-range=2", "--async"),
        ("--concurrency-range=1", "-b4"),
        ("--request-rate-range=200",),
        ("--request-rate-range=200", "--request-distribution=poisson"),
        ("--concurrency-range=1", "--input-tensor-format=json", "--output-tensor-format=json"),
    ],
    ids=" ".join,
)
def test_perf_analyzer(node: RunningNode, perf_analyzer: Callable[..., str], options: tuple[str, ...]) -> None:
    check_perf(perf_analyzer("-u", f"127.0.0.1:{node.port}", *options))
