"""An ONNX graph as a function of PyTorch tensors, so that its constants can be trained where it stands.

The graph is what is served, whatever it was converted from: a module that was exported, a Keras model, a file. Nothing
of the user's code is needed, and what is trained is written back into the same graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from setpoint.core import InvalidConfiguration

Attributes = dict[str, Any]
Operator = Callable[[list[Tensor | None], Attributes], Tensor]
_LEAST_TRAINED = 8
"""Smaller constants are shapes, scales and bounds."""


class TorchGraph:
    """The graph's nodes, run in their order.

    Raises:
        InvalidConfiguration: it has an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = [(node, _attributes(node)) for node in model.graph.node]
        self._outputs = [value.name for value in model.graph.output]
        unknown = sorted({node.op_type for node, _ in self._nodes} - set(_OPERATORS))
        if unknown:
            raise InvalidConfiguration(f"the graph has operators that cannot be trained here: {', '.join(unknown)}")
        self._constants: dict[str, Tensor] = {}
        self.trained: dict[str, Tensor] = {}
        for tensor in model.graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            self._constants[tensor.name] = value
            if value.dtype == torch.float32 and value.numel() >= _LEAST_TRAINED:
                self.trained[tensor.name] = value.requires_grad_()

    def run(self, given: dict[str, Tensor]) -> Tensor:
        """The first output."""
        values: dict[str, Tensor] = {**self._constants, **given}
        for node, attributes in self._nodes:
            inputs = [values[name] if name else None for name in node.input]
            values[node.output[0]] = _OPERATORS[node.op_type](inputs, attributes)
        return values[self._outputs[0]]

    def constants(self) -> dict[str, NDArray[Any]]:
        """What was trained, by name."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self.trained.items()}


def _attributes(node: onnx.NodeProto) -> Attributes:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _some(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "the operator's definition asks for it"
    return tensor


def _conv(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    source, weights = _some(inputs[0]), _some(inputs[1])
    bias = inputs[2] if len(inputs) > 2 else None
    if weights.dim() != 4 or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise InvalidConfiguration("convolutions are trained where they have two axes and stated padding")
    padded = functional.pad(source, _padding(attributes))
    return functional.conv2d(
        padded,
        weights,
        bias,
        stride=attributes.get("strides", [1, 1]),
        dilation=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _padding(attributes: Attributes) -> list[int]:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return [left, right, top, bottom]


def _max_pool(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    kernel = attributes["kernel_shape"]
    padded = functional.pad(_some(inputs[0]), _padding(attributes), value=float("-inf"))
    strides = attributes.get("strides", [1] * len(kernel))
    return functional.max_pool2d(padded, kernel, strides, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _average_pool(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    if any(attributes.get("pads", [])):
        raise InvalidConfiguration("averages over windows are trained where they are not padded")
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    return functional.avg_pool2d(_some(inputs[0]), kernel, strides, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _gemm(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    left, right = _some(inputs[0]), _some(inputs[1])
    product = (left.T if attributes.get("transA") else left) @ (right.T if attributes.get("transB") else right)
    product = attributes.get("alpha", 1.0) * product
    bias = inputs[2] if len(inputs) > 2 else None
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _clip(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    low, high = ([*inputs[1:], None, None])[:2]
    return torch.clamp(_some(inputs[0]), min=low, max=high)


def _reshape(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    source = _some(inputs[0])
    shape = [source.shape[axis] if size == 0 else size for axis, size in enumerate(_some(inputs[1]).tolist())]
    return source.reshape(shape)


def _flatten(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    source, axis = _some(inputs[0]), attributes.get("axis", 1)
    return source.reshape(int(np.prod(source.shape[:axis], dtype=np.int64)), -1)


def _reduce_mean(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    axes = attributes.get("axes") if len(inputs) < 2 else _some(inputs[1]).tolist()
    return _some(inputs[0]).mean(dim=axes, keepdim=bool(attributes.get("keepdims", 1)))


def _batch_norm(inputs: list[Tensor | None], attributes: Attributes) -> Tensor:
    source, scale, offset, mean, variance = map(_some, inputs[:5])
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.batch_norm(source, mean, variance, scale, offset, training=False, eps=epsilon)


def _of_one(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: function(_some(inputs[0]))


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: function(_some(inputs[0]), _some(inputs[1]))


_OPERATORS: dict[str, Operator] = {
    "Add": _of_two(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat([_some(each) for each in inputs], dim=attributes["axis"]),
    "Conv": _conv,
    "Div": _of_two(torch.div),
    "Dropout": _of_one(lambda source: source),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _of_one(lambda source: source.mean(dim=(2, 3), keepdim=True)),
    "Identity": _of_one(lambda source: source),
    "LeakyRelu": lambda inputs, attributes: functional.leaky_relu(_some(inputs[0]), attributes.get("alpha", 0.01)),
    "MatMul": _of_two(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _of_two(torch.mul),
    "ReduceMean": _reduce_mean,
    "Relu": _of_one(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _of_one(torch.sigmoid),
    "Softmax": lambda inputs, attributes: torch.softmax(_some(inputs[0]), dim=attributes.get("axis", -1)),
    "Sub": _of_two(torch.sub),
    "Tanh": _of_one(torch.tanh),
    "Transpose": lambda inputs, attributes: _some(inputs[0]).permute(attributes["perm"]),
}
"""The operators that small networks of products and convolutions consist of, as ONNX defines them (opset 13 on)."""
