"""Where channels of one layer go into the next and nowhere else, so that some of them can be taken away whole."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import onnx
from onnx import helper

from setpoint.optimize.makers.layers import Layer

_KEEP_CHANNELS = frozenset(
    {
        *(
            "Relu",
            "LeakyRelu",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Tanh",
            "Elu",
            "Selu",
            "Gelu",
            "Softplus",
            "Clip",
        ),
        *("Erf", "Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    }
)
"""What treats each channel alone and the same."""
_ADDS = ("Add", "Mul", "Sub")
"""With a constant of one number for each channel, or one for all."""


class Chain(msgspec.Struct, frozen=True):
    """Two layers with nothing but channel-wise work in between.

    Attributes:
        producer, consumer: whose outputs are the other's inputs.
        block: how many neighbouring inputs of the consumer one channel of the producer is.
        constants: names of those between them that have one number for each channel, along their only long axis.
        reshape: name of the constant that states the flattened width, where there is one.
    """

    producer: Layer
    consumer: Layer
    block: int
    constants: tuple[str, ...] = ()
    reshape: str = ""


def chains_of(model: onnx.ModelProto, layers: list[Layer]) -> Iterator[Chain]:
    """Every such pair, in the graph's order."""
    graph = model.graph
    by_name = {layer.name: layer for layer in layers}
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if math.prod(t.dims) <= 8}
    answered = {value.name for value in graph.output}
    shared = {layer.weights for layer in layers if len(takers.get(layer.weights, ())) > 1}
    for producer_node in graph.node:
        producer = by_name.get(producer_node.name)
        if producer is None or producer.weights in shared:
            continue
        current, constants, reshape = producer_node.output[0], list[str](), ""
        flat = producer.window is None
        while current not in answered and len(takers.get(current, ())) == 1:
            node = takers[current][0]
            if consumer := by_name.get(node.name):
                if consumer.source == current and consumer.weights not in shared:
                    yield from _chain(producer, consumer, constants, reshape, flat=flat)
                break
            others = [name for name in node.input if name and name != current]
            if node.op_type in _KEEP_CHANNELS and node.input[0] == current and all(name in shapes for name in others):
                pass
            elif node.op_type in _ADDS and len(others) == 1 and others[0] in shapes:
                long = [size for size in shapes[others[0]] if size > 1]
                if long and (long != [producer.outputs] or not _on_channels(shapes[others[0]], flat=flat)):
                    break
                if len(takers[others[0]]) > 1:
                    break
                constants += others if long else []
            elif node.op_type == "Flatten" and not flat and _axis(node) == 1:
                flat = True
            elif node.op_type == "Reshape" and not flat and node.input[0] == current:
                shape = values.get(node.input[1])
                if shape is None or len(shape) != 2 or shape[0] not in (0, -1) or len(takers[node.input[1]]) > 1:
                    break
                flat, reshape = True, node.input[1] if shape[1] > 0 else ""
            else:
                break
            current = node.output[0]


def _chain(producer: Layer, consumer: Layer, constants: list[str], reshape: str, *, flat: bool) -> Iterator[Chain]:
    """The pair, if the consumer's inputs are whole channels of the producer in their order."""
    block, rest = divmod(consumer.inputs, producer.outputs)
    in_place = flat == (consumer.window is None)
    if in_place and not rest and (consumer.window is None or block == consumer.window.size):
        yield Chain(producer, consumer, block, tuple(constants), reshape)


def _on_channels(shape: tuple[int, ...], *, flat: bool) -> bool:
    """Whether the long axis of a constant meets that of the channels: the last one, or the second of four."""
    return shape[-1] > 1 if flat else len(shape) >= 3 and shape[-3] > 1


def _axis(node: onnx.NodeProto) -> int:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return int(values.get("axis", 1))
