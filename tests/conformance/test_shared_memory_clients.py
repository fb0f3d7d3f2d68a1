"""Clients that pass tensors in system shared memory, unmodified, over REST and gRPC."""

import json
from collections.abc import Callable

import pytest
from environments import check_perf, python_of, run_program
from harness import RunningNode
from served_models import TWICE


@pytest.fixture(scope="module")
def node(serve: Callable[..., RunningNode]) -> RunningNode:
    return serve({"twice": TWICE}, options=("--grpc-port=0", "--shared-memory"))


def address(node: RunningNode, protocol: str) -> str:
    return str(node.announced["grpc"]) if protocol == "grpc" else f"127.0.0.1:{node.port}"


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritonclient(node: RunningNode, protocol: str) -> None:
    written = run_program(python_of("triton"), "triton_shared_memory.py", protocol, address(node, protocol))
    assert json.loads(written) == [[0, 2, 4, 6], [8, 10, 12, 14]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer(node: RunningNode, perf_analyzer: Callable[..., str], protocol: str) -> None:
    shared = ("--shared-memory=system", "--output-shared-memory-size=1024")
    check_perf(perf_analyzer("-i", protocol, "-u", address(node, protocol), "--concurrency-range=2", *shared))
