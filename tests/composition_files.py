"""Folders with a ``composition.json`` and the small graphs that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Axes = list[int | str]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def graph(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, Axes],
    outputs: Mapping[str, Axes],
    constants: Mapping[str, Any] = {},
    kinds: Mapping[str, int] = {},
) -> onnx.ModelProto:
    """A graph of float32 tensors; ``kinds`` says which are not."""

    def infos(tensors: Mapping[str, Axes]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kinds.get(name, FLOAT), axes) for name, axes in tensors.items()]

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "small", infos(inputs), infos(outputs), initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def scale(factor: float, columns: int = 2) -> onnx.ModelProto:
    """``y = factor · x``, by row."""
    axes: Axes = ["rows", columns]
    return graph([helper.make_node("Mul", ["x", "f"], ["y"])], {"x": axes}, {"y": axes}, {"f": np.float32(factor)})


def total(columns: int = 2) -> onnx.ModelProto:
    """``score`` [rows, 1]: the sum of each row."""
    return graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["score"], keepdims=1)],
        {"x": ["rows", columns]},
        {"score": ["rows", 1]},
        {"axes": np.array([1])},
    )


def label(shift: int, columns: int = 2) -> onnx.ModelProto:
    """``label`` int64 [rows]: where the largest column is, ``shift`` further on, around the corner."""
    return graph(
        [
            helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
            helper.make_node("Add", ["best", "shift"], ["moved"]),
            helper.make_node("Mod", ["moved", "columns"], ["label"]),
        ],
        {"x": ["rows", columns]},
        {"label": ["rows"]},
        {"shift": np.int64(shift), "columns": np.int64(columns)},
        {"label": INT64},
    )


def composition(folder: Path, declared: dict[str, Any], files: dict[str, onnx.ModelProto | str]) -> Path:
    """Write a folder to be packed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "composition.json").write_text(json.dumps(declared))
    for name, content in files.items():
        if isinstance(content, str):
            (folder / name).write_text(content)
        else:
            onnx.save(content, folder / name)
    return folder
