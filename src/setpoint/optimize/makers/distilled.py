"""A smaller student that learned the model's answers: for inputs of fixed size, a network with one hidden layer.

No labels are needed, so there are as many examples as one likes: each real row is also asked about slightly changed and
mixed with others, and the teacher answers all of them. What the student is worth, the judging rows say, which neither
has seen.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from setpoint.core import MissingExtra
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole
from setpoint.optimize.makers.teaching import Floats, spread_of, taught_rows, teacher, varied

_WIDTHS = (64, 256)
_EPOCHS = 60
_SEED = 7


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
        rows = taught_rows(job, model, arrays)
        asked = varied(rows)
        answers = teacher(job, next(iter(arrays)), asked)
        return [self._train(job, model, asked, answers, width) for width in _WIDTHS]

    def _train(self, job: MakerJob, model: onnx.ModelProto, asked: Floats, answers: Floats, width: int) -> Made:
        from sklearn.neural_network import MLPRegressor

        flat = asked.reshape(len(asked), -1)
        centre, spread = flat.mean(axis=0), spread_of(flat)
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
