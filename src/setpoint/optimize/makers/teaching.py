"""What trainers of variants share: more rows than there are, and the original's answers to them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_onnx
from setpoint.optimize.makers.base import MakerJob

ROWS_LEAST = 100
"""Fewer real rows teach nothing."""
_CHANGED, _NOISE = 12, 0.1
"""Changed copies of each row; how much of each column's spread they are off by."""
_NARROWEST = 0.2
_ROWS_MOST = 30_000
_TEACHER_ROWS = 256
_NUMBERS_MOST = 20_000
_SEED = 7

Floats = NDArray[np.float32]


def taught_rows(job: MakerJob, model: onnx.ModelProto, arrays: dict[str, NDArray[Any]]) -> Floats:
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
    if not job.real or len(rows) < ROWS_LEAST:
        raise InvalidConfiguration(f"a student learns from {ROWS_LEAST} real rows or more: give some with --data")
    return np.asarray(rows, np.float32)


def varied(rows: Floats) -> Floats:
    """The rows, noisy copies of them, and mixtures of two."""
    random = np.random.default_rng(_SEED)
    copies = max(1, min(_CHANGED, _ROWS_MOST // len(rows) - 1))
    spread = spread_of(rows)
    pieces = [rows]
    for _ in range(copies):
        other = rows[random.permutation(len(rows))]
        share = random.beta(0.4, 0.4, (len(rows), *[1] * (rows.ndim - 1)))
        noise = _NOISE * spread * random.standard_normal(rows.shape)
        pieces.append((share * rows + (1 - share) * other + noise).astype(np.float32))
    return np.concatenate(pieces)


def spread_of(rows: Floats) -> Floats:
    """Standard deviation by column. One that never changed here may change elsewhere: none counts as much narrower."""
    by_column = rows.std(axis=0)
    return np.asarray(np.maximum(by_column, _NARROWEST * rows.std() + 1e-9), np.float32)


def teacher(job: MakerJob, name: str, asked: Floats) -> Floats:
    """The original's first output for rows of its one input."""
    executable = load_onnx(job.model, EngineOptions(threads=job.threads), quiet=True)
    parts = [
        next(iter(executable.run({name: asked[start : start + _TEACHER_ROWS]}).values()))
        for start in range(0, len(asked), _TEACHER_ROWS)
    ]
    executable.close()
    return np.concatenate(parts)
