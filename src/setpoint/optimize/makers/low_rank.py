"""Large matrices as products of two thin ones: ``W (m×n)`` becomes ``A (m×r) · B (r×n)`` where few directions matter.

Which directions matter, the model's own inputs say: the error that counts is that of ``X·W``, so ``W`` is weighed by
the activations' covariance before its singular values are cut (ASVD and SVD-LLM do the same). With ``C = XᵀX = L·Lᵀ``
the best product of rank r of ``Lᵀ·W`` is its truncated SVD; ``A = L⁻ᵀ·U·√Σ`` and ``B = √Σ·Vᵀ``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_onnx
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import answers, calibration_batches, read_whole, relative_error, require_products

_LEAST_WEIGHTS = 16_384
"""A smaller matrix is one cache line after another; cutting it saves nothing."""
_PAYS = 0.75
"""Share of a matrix's multiplications that the two thin ones may need: two products have twice the overhead."""
_KEPT = (0.999, 0.99)
"""Shares of the weighed matrix's energy that are kept, a variant each."""
_ROUND = 8
"""Ranks are multiples of this, for the processor's vectors."""
_RIDGE = 1e-6

Floats = NDArray[np.float64]


class LowRankMaker:
    """``low-rank-99.9`` and ``low-rank-99``, by the per cent of energy that is kept."""

    name = "low-rank"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Factorise what pays.

        Raises:
            InvalidConfiguration: no large matrix products, no real rows, or no matrix is of low enough rank.
        """
        if not job.real:
            raise InvalidConfiguration("which directions matter is learned from real rows: give some with --data")
        model = read_whole(job.model)
        require_products(model)
        inputs = {node.name: node.input[0] for node in _candidates(model)}
        if not inputs:
            raise InvalidConfiguration(f"no product has a constant matrix of {_LEAST_WEIGHTS:,} numbers or more")
        factors = _factors(model, _covariances(job, model, sorted(set(inputs.values()))))
        expected = answers(job, job.model)
        made = []
        for kept in _KEPT:
            thin = onnx.ModelProto()
            thin.CopyFrom(model)
            count = _replace(thin, factors, kept)
            if count:
                name = f"low-rank-{100 * kept:g}"
                artifact = job.workdir / f"{name}.onnx"
                onnx.save_model(thin, artifact)
                error = relative_error(expected, answers(job, artifact))
                note = f"{count} of {len(inputs)} matrices in two, answers off by {error:.1%}"
                made.append(Made(name, "fp32", artifact, note=note))
        if not made:
            raise InvalidConfiguration("every matrix needs nearly its full rank: two thin ones would be more work")
        return made


def _candidates(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Products of an activation by a large constant matrix, in the orientation that both operators share."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in shapes or node.input[0] in shapes:
            continue
        # Gemm's transpositions are integers that must be 0, its factors floats that must be 1.
        special = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = all(values.get(name, default) == default for name, default in special.items())
        dims = shapes[node.input[1]]
        if plain and len(dims) == 2 and math.prod(dims) >= _LEAST_WEIGHTS:
            node.name = node.name or f"{node.op_type}_{index}"
            yield node


def _covariances(job: MakerJob, model: onnx.ModelProto, names: list[str]) -> dict[str, Floats]:
    """``XᵀX`` of each named activation over the calibration rows, every axis but the last one being rows of X."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {value.name for value in model.graph.input} | {value.name for value in model.graph.output}
    for name in names:
        if name not in given:
            watched.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    place = job.workdir / "watched.onnx"
    onnx.save_model(watched, place)
    executable = load_onnx(Path(place), EngineOptions(threads=job.threads), quiet=True)
    sums: dict[str, Floats] = {}
    for batch in calibration_batches(job):
        outputs = {**batch, **executable.run(batch)}
        for name in names:
            rows = outputs[name].reshape(-1, outputs[name].shape[-1]).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + rows.T @ rows
    executable.close()
    place.unlink()
    return sums


def _factors(model: onnx.ModelProto, covariances: dict[str, Floats]) -> dict[str, tuple[Floats, Floats, Floats]]:
    """By node: the first factor's columns and the second one's rows in order of weight, and their energies."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in _candidates(model):
        matrix = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
        covariance = covariances[node.input[0]]
        ridge = _RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-12
        lower = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        left, values, right = np.linalg.svd(lower.T @ matrix, full_matrices=False)
        root = np.sqrt(values)
        found[node.name] = np.linalg.solve(lower.T, left * root), root[:, None] * right, values**2
    return found


def _rank_of(energies: Floats, kept: float) -> int:
    """The smallest multiple of ``_ROUND`` whose leading values hold the share of energy."""
    needed = int(np.searchsorted(np.cumsum(energies), kept * energies.sum())) + 1
    return min(len(energies), -(-needed // _ROUND) * _ROUND)


def _replace(model: onnx.ModelProto, factors: dict[str, tuple[Floats, Floats, Floats]], kept: float) -> int:
    """Put two products in place of one where that pays; returns how many were replaced."""
    nodes = []
    count = 0
    for node in model.graph.node:
        nodes.append(node)
        if node.name not in factors:
            continue
        first, second, energies = factors[node.name]
        rank = _rank_of(energies, kept)
        if rank * (len(first) + second.shape[1]) > _PAYS * len(first) * second.shape[1]:
            continue
        count += 1
        thin = f"{node.name}_thin"
        for suffix, factor in (("_a", first[:, :rank]), ("_b", second[:rank])):
            tensor = numpy_helper.from_array(np.ascontiguousarray(factor, np.float32), node.name + suffix)
            model.graph.initializer.append(tensor)
        nodes.insert(-1, helper.make_node("MatMul", [node.input[0], node.name + "_a"], [thin], name=thin))
        node.input[0], node.input[1] = thin, node.name + "_b"
    kept_nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept_nodes)
    used = {name for node in model.graph.node for name in node.input}
    still = [tensor for tensor in model.graph.initializer if tensor.name in used]
    saved = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in still]
    del model.graph.initializer[:]
    model.graph.initializer.extend(saved)
    return count
