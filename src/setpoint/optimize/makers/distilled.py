"""A smaller student that learned the model's answers: for inputs of fixed size, a network with one hidden layer.

No labels are needed, so there are as many examples as one likes: each real row is also asked about slightly changed and
mixed with others, and the teacher answers all of them. What the student is worth, the judging rows say, which neither
has seen.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from setpoint.core import InvalidConfiguration, MissingExtra
from setpoint.engines import EngineOptions, load_onnx
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole

_WIDTHS = (64, 256)
_CHANGED, _NOISE = 12, 0.1
"""Changed copies of each row; how much of each column's spread they are off by."""
_NARROWEST = 0.2
_ROWS_LEAST = 100
_ROWS_MOST = 30_000
_TEACHER_ROWS = 256
_NUMBERS_MOST = 20_000
_EPOCHS = 60
_SEED = 7

Floats = NDArray[np.float32]


class DistilledMaker:
    """``student-64`` and ``student-256``, by the width of the hidden layer."""

    name = "distilled"
    trains = True

    def make(self, job: MakerJob) -> list[Made]:
        """Train on the calibration rows and variations of them.

        Raises:
            InvalidConfiguration: another kind of input or output, or too few real rows.
            MissingExtra: scikit-learn, which trains, is not installed.
        """
        if importlib.util.find_spec("sklearn") is None:
            raise MissingExtra("scikit-learn", "sklearn", "training a student")
        model = read_whole(job.model)
        with np.load(job.calibration, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        rows = _only_floats(job, model, arrays)
        asked = _varied(rows)
        answers = _teacher(job, next(iter(arrays)), asked)
        return [self._train(job, model, asked, answers, width) for width in _WIDTHS]

    def _train(self, job: MakerJob, model: onnx.ModelProto, asked: Floats, answers: Floats, width: int) -> Made:
        from sklearn.neural_network import MLPRegressor

        flat = asked.reshape(len(asked), -1)
        centre, spread = flat.mean(axis=0), _spread(flat)
        shift, scale = answers.mean(axis=0), answers.std(axis=0) + 1e-9
        student = MLPRegressor(hidden_layer_sizes=(width,), max_iter=_EPOCHS, early_stopping=True, random_state=_SEED)
        student.fit((flat - centre) / spread, (answers - shift) / scale)
        (first, second), (bias, last) = student.coefs_, student.intercepts_
        # Both scalings go into the weights: (x - c) / s · W + b = x · (W / s) + (b - (c / s) · W).
        constants = {
            "first": first / spread[:, None],
            "bias": bias - (centre / spread) @ first,
            "second": second * scale,
            "last": last * scale + shift,
        }
        name = f"student-{width}"
        artifact = job.workdir / f"{name}.onnx"
        onnx.save_model(_graph(model, constants), artifact)
        note = f"one hidden layer of {width}, trained on {len(asked)} answers of the original"
        return Made(name, "fp32", artifact, note=note)


def _only_floats(job: MakerJob, model: onnx.ModelProto, arrays: dict[str, NDArray[Any]]) -> Floats:
    """The rows, where the model is one that a plain network can learn.

    Raises:
        InvalidConfiguration: it is not.
    """
    outputs = model.graph.output
    one = len(arrays) == 1 and len(outputs) == 1 and job.batched
    rows = next(iter(arrays.values()))
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *outputs)} if one else set()
    fixed = one and all(axis.dim_value > 0 for axis in list(model.graph.input[0].type.tensor_type.shape.dim)[1:])
    if not one or types != {TensorProto.FLOAT} or not fixed or math.prod(rows.shape[1:]) > _NUMBERS_MOST:
        raise InvalidConfiguration(
            "a student is trained where one input of fixed size gives one output, both 32-bit floats"
        )
    if len(outputs[0].type.tensor_type.shape.dim) != 2:
        raise InvalidConfiguration("a student is trained where the output is one vector for each row")
    if not job.real or len(rows) < _ROWS_LEAST:
        raise InvalidConfiguration(f"a student learns from {_ROWS_LEAST} real rows or more: give some with --data")
    return np.asarray(rows, np.float32)


def _varied(rows: Floats) -> Floats:
    """The rows, noisy copies of them, and mixtures of two."""
    random = np.random.default_rng(_SEED)
    copies = max(1, min(_CHANGED, _ROWS_MOST // len(rows) - 1))
    spread = _spread(rows)
    pieces = [rows]
    for _ in range(copies):
        other = rows[random.permutation(len(rows))]
        share = random.beta(0.4, 0.4, (len(rows), *[1] * (rows.ndim - 1)))
        noise = _NOISE * spread * random.standard_normal(rows.shape)
        pieces.append((share * rows + (1 - share) * other + noise).astype(np.float32))
    return np.concatenate(pieces)


def _spread(rows: Floats) -> Floats:
    """Standard deviation by column. One that never changed here may change elsewhere: none counts as much narrower."""
    by_column = rows.std(axis=0)
    return np.asarray(np.maximum(by_column, _NARROWEST * rows.std() + 1e-9), np.float32)


def _teacher(job: MakerJob, name: str, asked: Floats) -> Floats:
    executable = load_onnx(job.model, EngineOptions(threads=job.threads), quiet=True)
    parts = [
        next(iter(executable.run({name: asked[start : start + _TEACHER_ROWS]}).values()))
        for start in range(0, len(asked), _TEACHER_ROWS)
    ]
    executable.close()
    return np.concatenate(parts)


def _graph(model: onnx.ModelProto, constants: dict[str, NDArray[Any]]) -> onnx.ModelProto:
    """The student with the original's input and output."""
    source, answer = model.graph.input[0].name, model.graph.output[0].name
    nodes = [
        helper.make_node("Flatten", [source], ["student_flat"], axis=1),
        helper.make_node("Gemm", ["student_flat", "first", "bias"], ["student_sum"]),
        helper.make_node("Relu", ["student_sum"], ["student_hidden"]),
        helper.make_node("Gemm", ["student_hidden", "second", "last"], [answer]),
    ]
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name) for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "student", model.graph.input, model.graph.output, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
