"""A pipeline's arithmetic inside its graph: pixels to values before it, scores and the best of them behind it.

What stays outside is what a graph would do otherwise: decoding, resizing and cropping, tokenising. The graph then takes
an image's bytes, a quarter of what its values are, and gives a few scores in place of all logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from setpoint.authoring import FUSED_OUTPUTS, ImageSteps, Pipeline

if TYPE_CHECKING:
    import onnx

_PREFIX = "setpoint_"
PIXELS = f"{_PREFIX}pixels"
"""The input of a fused graph of images: UINT8 [images, height, width, channels], channels as Pillow has them."""
_LEAST_OPSET = 11
"""Before it, the best k cannot be counted by an input, and constants are of other forms."""
_CLASSIFIERS = ("image-classification", "text-classification")


def fused(pipeline: Pipeline, graph: Path) -> onnx.ModelProto | str:
    """The graph with what the pipeline declares around it, its weights where they were; or why there is none.

    Args:
        pipeline: as declared.
        graph: its file.
    """
    import onnx

    if pipeline.task not in _CLASSIFIERS:
        return f"nothing of {pipeline.task} is fused"
    model = onnx.load_model(graph, load_external_data=False)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        return f"its operators are of version {opset}, before {_LEAST_OPSET}"
    if any(node.name.startswith(_PREFIX) for node in model.graph.node):
        return "something is fused into it already"
    constants = {tensor.name for tensor in model.graph.initializer}
    takes = [value for value in model.graph.input if value.name not in constants]
    output = pipeline.output or model.graph.output[0].name
    if output not in {value.name for value in model.graph.output}:
        return f"it has no output {output!r}"
    builder = _Builder(model)
    if pipeline.image is not None:
        (value,) = takes[:1]
        if len(takes) != 1 or value.type.tensor_type.elem_type not in (
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.FLOAT16,
        ):
            return "its input is no tensor of floats"
        builder.before(pipeline.image, value)
    builder.behind(pipeline, output)
    return model


class _Builder:
    """Adds nodes and constants to a model, under names of its own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._count = 0

    def before(self, steps: ImageSteps, value: onnx.ValueInfoProto) -> None:
        """Pixels become the input ``value``, which is no input any more."""
        import onnx

        nodes: list[onnx.NodeProto] = []
        at = PIXELS
        shape = (1, -1, 1, 1) if steps.layout == "nchw" else (1, 1, 1, -1)
        if steps.layout == "nchw":  # while a pixel is a byte and not four
            at = self._node(nodes, "Transpose", [at], perm=[0, 3, 1, 2])
        if steps.channels == "bgr":
            order = self._constant(np.array([2, 1, 0], np.int64))
            at = self._node(nodes, "Gather", [at, order], axis=1 if steps.layout == "nchw" else 3)
        at = self._node(nodes, "Cast", [at], to=onnx.TensorProto.FLOAT)
        std = np.array(steps.std or (1.0,), np.float64)
        mean = np.array(steps.mean or (0.0,), np.float64)
        factor, offset = (steps.scale / std).astype(np.float32), (mean / std).astype(np.float32)
        at = self._node(nodes, "Mul", [at, self._constant(factor.reshape(shape))])
        if offset.any():
            at = self._node(nodes, "Sub", [at, self._constant(offset.reshape(shape))])
        kind = value.type.tensor_type.elem_type
        nodes.append(onnx.helper.make_node("Cast", [at], [value.name], name=f"{_PREFIX}values", to=kind))
        graph = self._model.graph
        place = next(index for index, given in enumerate(graph.input) if given.name == value.name)
        taken = onnx.helper.make_tensor_value_info(
            PIXELS, onnx.TensorProto.UINT8, [f"{_PREFIX}images", *self._sides(value, steps), self._depth(steps)]
        )
        graph.input[place].CopyFrom(taken)
        old = list(graph.node)
        del graph.node[:]
        graph.node.extend([*nodes, *old])

    def behind(self, pipeline: Pipeline, output: str) -> None:
        """Scores of the best labels and where they stand become the outputs, in place of what the graph gave."""
        import onnx

        nodes: list[onnx.NodeProto] = []
        flat = self._node(nodes, "Reshape", [output, self._constant(np.array([0, -1], np.int64))])
        at = self._node(nodes, "Cast", [flat], to=onnx.TensorProto.FLOAT)
        if pipeline.activation != "none":
            kind, options = {"softmax": ("Softmax", {"axis": 1}), "sigmoid": ("Sigmoid", {})}[pipeline.activation]
            at = self._node(nodes, kind, [at], **options)
        count = max(1, min(pipeline.top_k, len(pipeline.labels)))
        best = self._constant(np.array([count], np.int64))
        scores, positions = FUSED_OUTPUTS
        nodes.append(
            onnx.helper.make_node(
                "TopK", [at, best], [scores, positions], name=f"{_PREFIX}best", axis=1, largest=1, sorted=1
            )
        )
        graph = self._model.graph
        graph.node.extend(nodes)
        del graph.output[:]
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
        for name, kind in zip(FUSED_OUTPUTS, kinds, strict=True):
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [f"{_PREFIX}rows", count]))

    def _node(self, nodes: list[onnx.NodeProto], kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        import onnx

        self._count += 1
        name = f"{_PREFIX}{self._count}"
        nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, values: np.ndarray[Any, Any]) -> str:
        import onnx

        self._count += 1
        name = f"{_PREFIX}{self._count}"
        self._model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return name

    def _sides(self, value: onnx.ValueInfoProto, steps: ImageSteps) -> list[int | str]:
        """Height and width as the graph declares them, so that wrong ones are refused as before."""
        axes = value.type.tensor_type.shape.dim
        if len(axes) != 4:
            return [f"{_PREFIX}height", f"{_PREFIX}width"]
        sides = axes[2:] if steps.layout == "nchw" else axes[1:3]
        names = (f"{_PREFIX}height", f"{_PREFIX}width")
        return [axis.dim_value or name for axis, name in zip(sides, names, strict=True)]

    def _depth(self, steps: ImageSteps) -> int:
        return 1 if steps.channels == "grey" else 3
