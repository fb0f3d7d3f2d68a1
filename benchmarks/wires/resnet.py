"""A graph with ResNet-18's layers and sizes and random weights: 11.7 million parameters, 1.8 billion multiplications.

What it answers means nothing; what it costs is what a ResNet-18 costs, and that is what is compared here. Batch
normalisation is folded into the convolutions, as every engine does before it runs one.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (3, 224, 224)
CLASSES = 1000
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(18)

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, *shape: int) -> str:
        name = f"weight_{len(self.weights)}"
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01
        values = (self._random.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolution(self, source: str, channels_in: int, channels: int, size: int, stride: int) -> str:
        weight, bias = self.weight(channels, channels_in, size, size), self.weight(channels)
        return self.node("Conv", source, weight, bias, strides=[stride] * 2, pads=[size // 2] * 4)

    def block(self, source: str, channels_in: int, channels: int, stride: int) -> str:
        first = self.node("Relu", self.convolution(source, channels_in, channels, 3, stride))
        second = self.convolution(first, channels, channels, 3, 1)
        if stride != 1 or channels_in != channels:
            source = self.convolution(source, channels_in, channels, 1, stride)
        return self.node("Relu", self.node("Add", second, source))


def resnet18() -> onnx.ModelProto:
    """``image`` FP32[N, 3, 224, 224] → ``scores`` FP32[N, 1000]."""
    graph = _Graph()
    layer = graph.node("Relu", graph.convolution("image", 3, 64, 7, 2))
    layer = graph.node("MaxPool", layer, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels_in = 64
    for channels, stride in _STAGES:
        layer = graph.block(layer, channels_in, channels, stride)
        layer = graph.block(layer, channels, channels, 1)
        channels_in = channels
    layer = graph.node("Flatten", graph.node("GlobalAveragePool", layer))
    scores = graph.node("Gemm", layer, graph.weight(CLASSES, 512), graph.weight(CLASSES), transB=1)
    graph.nodes[-1].output[0] = scores = "scores"
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "resnet18",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *IMAGE])],
            [helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["N", CLASSES])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
