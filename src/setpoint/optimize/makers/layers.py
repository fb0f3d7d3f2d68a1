"""Products and convolutions of a graph as what they both are: rows of numbers times a constant matrix.

A convolution multiplies each patch of its input, ``channels × height × width`` numbers in that order, by a matrix with
one column for each of its output channels. What is learned of one kind (which directions of its input matter, which
inputs can be told from the others) is then learned of the other in the same way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from setpoint.engines import EngineOptions, load_onnx
from setpoint.optimize.makers.base import MakerJob
from setpoint.optimize.makers.graphs import calibration_batches

_PATCHES_MOST = 4_096
"""Of one batch of calibration rows; neighbours say nearly the same."""
_BATCHES_MOST = 200
"""Of calibration rows: where variants are trained there are many."""
_WIDEST = 8_192
"""Inputs of a matrix beyond which their covariance is not worth its memory."""
_SEED = 3

Floats = NDArray[np.float64]


class Window(msgspec.Struct, frozen=True):
    """How a convolution goes over its input; two axes, each with a kernel, strides, dilations and padding."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    def patches(self, images: NDArray[Any]) -> NDArray[Any]:
        """Rows that the convolution multiplies by its matrix.

        Args:
            images: FLOAT[rows, channels, height, width].
        """
        top, left, bottom, right = self.pads
        padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        spans = tuple((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True))
        views = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
        views = views[:, :, :: self.strides[0], :: self.strides[1], :: self.dilations[0], :: self.dilations[1]]
        return np.ascontiguousarray(views.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, images.shape[1] * self.size)

    @property
    def size(self) -> int:
        """Numbers of one channel in a patch."""
        return math.prod(self.kernel)


class Layer(msgspec.Struct, frozen=True):
    """A product or convolution with a constant matrix.

    Attributes:
        name: of its node.
        source: the tensor that goes in.
        weights: name of its constant.
        bias: name of the constant that is added; empty without.
        inputs, outputs: of its matrix.
        window: of a convolution; None for a product.
        transposed: a product whose constant is FLOAT[outputs, inputs], as PyTorch has it.
    """

    name: str
    source: str
    weights: str
    bias: str
    inputs: int
    outputs: int
    window: Window | None = None
    transposed: bool = False

    @property
    def size(self) -> int:
        """Numbers in the matrix."""
        return self.inputs * self.outputs

    def matrix(self, constants: dict[str, NDArray[Any]]) -> Floats:
        """Its matrix, FLOAT[inputs, outputs]."""
        weights = constants[self.weights].astype(np.float64)
        if self.window or self.transposed:
            return weights.reshape(self.outputs, self.inputs).T
        return weights

    def tensor(self, matrix: Floats) -> NDArray[np.float32]:
        """The other way: a matrix of any number of inputs and outputs as the node's constant."""
        if self.window is None:
            return np.ascontiguousarray(matrix.T if self.transposed else matrix, np.float32)
        shape = (matrix.shape[1], matrix.shape[0] // self.window.size, *self.window.kernel)
        return np.ascontiguousarray(matrix.T, np.float32).reshape(shape)


class Moments(msgspec.Struct, frozen=True):
    """What the calibration rows say of a layer's input: ``XᵀX``, the sum of X, and how many rows there were."""

    products: Floats
    sums: Floats
    rows: int


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The graph's constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def layers_of(model: onnx.ModelProto) -> Iterator[Layer]:
    """Every layer, in the graph's order; gives nodes without a name one."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        if len(node.input) < 2 or node.input[1] not in shapes or node.input[0] in shapes:
            continue
        node.name = node.name or f"{node.op_type}_{index}"
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in shapes else ""
        if len(node.input) > 2 and node.input[2] and not bias:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            layer = _product(node, shapes[node.input[1]], bias)
        elif node.op_type == "Conv":
            layer = _convolution(node, shapes[node.input[1]], bias)
        else:
            continue
        if layer is not None and layer.inputs <= _WIDEST:
            yield layer


def _product(node: onnx.NodeProto, shape: tuple[int, ...], bias: str) -> Layer | None:
    # Gemm's first transposition must be 0, its factors 1.
    special = {"transA": 0, "alpha": 1.0, "beta": 1.0}
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if len(shape) != 2 or any(values.get(name, default) != default for name, default in special.items()):
        return None
    transposed = bool(values.get("transB", 0))
    inputs, outputs = reversed(shape) if transposed else shape
    return Layer(node.name, node.input[0], node.input[1], bias, inputs, outputs, transposed=transposed)


def _convolution(node: onnx.NodeProto, shape: tuple[int, ...], bias: str) -> Layer | None:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if len(shape) != 4 or values.get("group", 1) != 1 or values.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    window = Window(
        kernel=shape[2:],
        strides=tuple(values.get("strides", (1, 1))),
        dilations=tuple(values.get("dilations", (1, 1))),
        pads=tuple(values.get("pads", (0, 0, 0, 0))),
    )
    return Layer(node.name, node.input[0], node.input[1], bias, math.prod(shape[1:]), shape[0], window)


def moments_of(job: MakerJob, model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, Moments]:
    """By layer, what the calibration rows say of its input; layers with the same input share it."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {value.name for value in model.graph.input} | {value.name for value in model.graph.output}
    for source in sorted({layer.source for layer in layers} - given):
        watched.graph.output.append(helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, None))
    place = job.workdir / "watched.onnx"
    onnx.save_model(watched, place)
    executable = load_onnx(place, EngineOptions(threads=job.threads), quiet=True)
    random = np.random.default_rng(_SEED)
    found: dict[tuple[str, Window | None], Moments] = {}
    for batch in itertools.islice(calibration_batches(job), _BATCHES_MOST):
        outputs = {**batch, **executable.run(batch)}
        for source, window in {(layer.source, layer.window) for layer in layers}:
            array = outputs[source]
            rows = window.patches(array) if window else array.reshape(-1, array.shape[-1])
            if len(rows) > _PATCHES_MOST:
                rows = rows[random.choice(len(rows), _PATCHES_MOST, replace=False)]
            rows = rows.astype(np.float64)
            before = found.get((source, window), Moments(np.zeros(()), np.zeros(()), 0))
            found[source, window] = Moments(
                before.products + rows.T @ rows, before.sums + rows.sum(axis=0), before.rows + len(rows)
            )
    executable.close()
    place.unlink()
    return {layer.name: found[layer.source, layer.window] for layer in layers}


def replace_constants(model: onnx.ModelProto, constants: dict[str, NDArray[Any]]) -> None:
    """Put constants in the place of those of the same name, or beside them, and remove what nothing uses."""
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used and tensor.name not in constants]
    saved = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(saved)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
