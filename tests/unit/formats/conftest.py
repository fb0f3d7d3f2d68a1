"""Small ONNX graphs, written as a test says them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Path]:
    """``graph([node, …], {"x": ("FLOAT", ["n", 2])}, {"y": ("FLOAT", ["n", 2])})`` is a model file."""

    def value(name: str, declared: tuple[str, list[Any] | None]) -> onnx.ValueInfoProto:
        kind, shape = declared
        return helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)

    def make(
        nodes: list[onnx.NodeProto],
        inputs: dict[str, tuple[str, list[Any] | None]],
        outputs: dict[str, tuple[str, list[Any] | None]],
        initializers: tuple[onnx.TensorProto, ...] = (),
        name: str = "model.onnx",
    ) -> Path:
        made = helper.make_graph(
            nodes,
            "graph",
            [value(*item) for item in inputs.items()],
            [value(*item) for item in outputs.items()],
            list(initializers),
        )
        domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(made, opset_imports=domains, ir_version=9)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return make
