"""Clients of the Open Inference Protocol over gRPC that we did not write, unmodified, each in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from environments import python_of, run_program
from harness import RunningNode
from onnx import TensorProto, helper

TOKEN = "correct-horse-battery"
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


def graph(nodes: list[onnx.NodeProto], takes: tuple[str, int, int], *gives: str) -> onnx.ModelProto:
    name, datatype, width = takes
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, datatype, ["n", width])],
        [helper.make_tensor_value_info(output, datatype, ["n", width]) for output in gives],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


TWICE = graph(
    [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])],
    ("x", TensorProto.FLOAT, 4),
    "y",
    "z",
)
TEXTS = graph([helper.make_node("Identity", ["t"], ["u"])], ("t", TensorProto.STRING, 2), "u")
HALVES = graph([helper.make_node("Identity", ["h"], ["i"])], ("h", TensorProto.FLOAT16, 4), "i")


@pytest.fixture(scope="module")
def node(serve: Callable[..., RunningNode]) -> Iterator[RunningNode]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SETPOINT_ADMIN_TOKEN", TOKEN)
        sources = {"twice": TWICE, "spare": TWICE, "texts": TEXTS, "halves": HALVES}
        yield serve(sources, options=("--grpc-port=0",))


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
