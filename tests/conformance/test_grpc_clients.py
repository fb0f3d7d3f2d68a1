"""Clients of the Open Inference Protocol over gRPC that we did not write, unmodified, each in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environments import check_perf, python_of, run_program
from harness import RunningNode
from served_models import SOURCES, TOKEN

TRITON = [
    "health",
    "metadata",
    "infer",
    "outputs",
    "classification",
    "text",
    "half_floats",
    "compression",
    "terms",
    "errors",
    "asynchronous",
    "stream",
    "repository",
    "config",
    "statistics",
    "aio",
]
KSERVE = ["health", "infer", "errors"]


@pytest.fixture(scope="module")
def node(serve: Callable[..., RunningNode]) -> Iterator[RunningNode]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SETPOINT_ADMIN_TOKEN", TOKEN)
        yield serve(SOURCES, options=("--grpc-port=0",))


@pytest.fixture(scope="module")
def triton() -> Path:
    return python_of("triton")


@pytest.mark.parametrize("call", TRITON)
def test_tritonclient(node: RunningNode, triton: Path, call: str) -> None:
    run_program(triton, "triton_grpc.py", node.announced["grpc"], call, TOKEN)


@pytest.mark.parametrize("call", KSERVE)
def test_kserve(node: RunningNode, call: str) -> None:
    run_program(python_of("kserve"), "kserve_grpc.py", node.announced["grpc"], call)


def test_our_messages_are_tritons_and_clash_with_nobody(triton: Path) -> None:
    assert int(run_program(triton, "triton_descriptors.py")) > 150


@pytest.mark.parametrize(
    ("environment", "module"),
    [("triton", "tritonclient.grpc.service_pb2"), ("kserve", "kserve.protocol.grpc.grpc_predict_v2_pb2")],
    ids=["tritonclient", "kserve"],
)
def test_a_process_that_embeds_a_node_may_import_their_messages(environment: str, module: str) -> None:
    run_program(python_of(environment), "beside_a_node.py", module)


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency-range=2",),
        ("--concurrency-range=2", "--async", "--streaming"),
        ("--concurrency-range=1", "-b4"),
        ("--request-rate-range=200",),
    ],
    ids=" ".join,
)
def test_perf_analyzer(node: RunningNode, perf_analyzer: Callable[..., str], options: tuple[str, ...]) -> None:
    check_perf(perf_analyzer("-i", "grpc", "-u", node.announced["grpc"], *options))
