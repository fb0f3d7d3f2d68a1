"""What several makers need of an ONNX graph: read it whole, count what is in it, run it on calibration rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_onnx
from setpoint.optimize.makers.base import MakerJob

_PRODUCTS = ("MatMul", "Gemm")
_LEAST_WEIGHTS = 1_000
_STEP_ROWS = 8
_PROTOBUF_LIMIT_BYTES = 2_000_000_000


class Survey(msgspec.Struct, frozen=True):
    """Weights by the operators that use them.

    Attributes:
        products: numbers in weights of matrix products.
        convolutions: the same of convolutions.
        quantised: the graph is quantised already.
    """

    products: int
    convolutions: int
    quantised: bool


def read_whole(path: Path) -> onnx.ModelProto:
    """A model with its weights inside.

    Raises:
        InvalidConfiguration: it does not fit into one file.
    """
    model = onnx.load_model(path)
    if model.ByteSize() > _PROTOBUF_LIMIT_BYTES:
        raise InvalidConfiguration("the model is larger than the 2 GB that an ONNX file can hold with its weights")
    return model


def survey(model: onnx.ModelProto) -> Survey:
    """Count a model's weights by use."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    counts = {"products": 0, "convolutions": 0}
    quantised = False
    for node in model.graph.node:
        if node.op_type.startswith(("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "MatMulNBits")):
            quantised = True
        kind = {**dict.fromkeys(_PRODUCTS, "products"), "Conv": "convolutions"}.get(node.op_type)
        if kind:
            counts[kind] += sum(sizes.get(name, 0) for name in node.input)
    return Survey(**counts, quantised=quantised)


def require_products(model: onnx.ModelProto) -> None:
    """Refuse a model without matrix products worth the trouble.

    Raises:
        InvalidConfiguration: it has none, or is quantised already.
    """
    _refuse_quantised(found := survey(model))
    if found.products < _LEAST_WEIGHTS:
        raise InvalidConfiguration("there are no matrix products with weights to speak of in this model")


def require_weights(model: onnx.ModelProto) -> Survey:
    """Refuse a model without weights to quantise; otherwise say where they are.

    Raises:
        InvalidConfiguration: it has none, or is quantised already.
    """
    _refuse_quantised(found := survey(model))
    if found.products + found.convolutions < _LEAST_WEIGHTS:
        raise InvalidConfiguration("there are no products or convolutions with weights to speak of in this model")
    return found


def _refuse_quantised(found: Survey) -> None:
    if found.quantised:
        raise InvalidConfiguration("the model is quantised already")


def calibration_batches(job: MakerJob) -> Iterator[dict[str, NDArray[Any]]]:
    """The calibration rows by input name, a few at a time, always as many: some of the tools stack what they see."""
    with np.load(job.calibration, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if not job.batched:
        yield arrays
        return
    rows = len(next(iter(arrays.values())))
    step = min(rows, _STEP_ROWS)
    for start in range(0, rows - step + 1, step):
        yield {name: array[start : start + step] for name, array in arrays.items()}


def answers(job: MakerJob, artifact: Path) -> NDArray[np.float64]:
    """All float outputs for the calibration rows, as the engine that serves computes them, in one long array."""
    executable = load_onnx(artifact, EngineOptions(threads=job.threads), quiet=True)
    pieces = []
    for batch in calibration_batches(job):
        outputs = executable.run(batch)
        pieces += [array.astype(np.float64).ravel() for array in outputs.values() if array.dtype.kind == "f"]
    executable.close()
    return np.concatenate(pieces) if pieces else np.zeros(0)


def relative_error(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Length of the difference as a share of the length of what was expected."""
    length = float(np.linalg.norm(expected))
    return float(np.linalg.norm(actual - expected)) / length if length else 0.0
