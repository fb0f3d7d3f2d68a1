"""Large matrices as products of two thin ones: ``W (m×n)`` becomes ``A (m×r) · B (r×n)`` where few directions matter.

Which directions matter, the model's own inputs say: the error that counts is that of ``X·W``, so ``W`` is weighed by
the activations' covariance before its singular values are cut (ASVD and SVD-LLM do the same). With ``C = XᵀX = L·Lᵀ``
the best product of rank r of ``Lᵀ·W`` is its truncated SVD; ``A = L⁻ᵀ·U·√Σ`` and ``B = √Σ·Vᵀ``. A convolution becomes
one of the same kernel with r channels, and one of kernel 1×1 that makes the channels of the original of them.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from setpoint.core import InvalidConfiguration
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import answers, read_whole, relative_error, require_weights
from setpoint.optimize.makers.layers import (
    Floats,
    Layer,
    Moments,
    constants_of,
    layers_of,
    moments_of,
    replace_constants,
)
from setpoint.optimize.makers.levels import Question, search

_LEAST_PRODUCT, _LEAST_CONVOLUTION = 16_384, 2_048
"""Numbers in a matrix. A smaller one is one cache line after another, unless a convolution goes over it many times."""
_PAYS = 0.75
"""Share of a matrix's multiplications that the two thin ones may need: two products have twice the overhead."""
KEPT = (0.999, 0.99)
"""Shares of the weighed matrix's energy that are kept, a variant each."""
LEVELS = (1.0, 0.9999, 0.999, 0.997, 0.99, 0.98, 0.97, 0.95, 0.9)
"""Shares that are tried for one matrix where each has its own."""
SEARCHED_FROM = 0.99
SEARCH_SHARE = 0.5
"""Of the time that is left when variants with one share were made."""
_WORTH = 0.9
"""Of the work that one share for all leaves: a choice that does not save as much more is not worth a variant."""
_ROUND = 8
"""Ranks are multiples of this, for the processor's vectors."""
_RIDGE = 1e-6


class Factors(msgspec.Struct, frozen=True):
    """A layer's matrix in two: columns of the first and rows of the second by weight, and the energy of each."""

    layer: Layer
    first: Floats
    second: Floats
    energies: Floats

    def rank(self, kept: float) -> int:
        """The smallest multiple of ``_ROUND`` that holds the share of energy; 0 where two are no less work than one."""
        needed = int(np.searchsorted(np.cumsum(self.energies), kept * self.energies.sum())) + 1
        rank = min(len(self.energies), -(-needed // _ROUND) * _ROUND)
        return rank if self.work(rank) <= _PAYS * self.layer.size else 0

    def work(self, rank: int) -> int:
        """Multiplications for one row of input, in two products, or in one where the rank is 0."""
        return rank * (self.layer.inputs + self.layer.outputs) if rank else self.layer.size


class LowRankMaker:
    """``low-rank-99.9`` and ``low-rank-99``, by the per cent of energy that is kept.

    ``low-rank-searched`` where another share for each matrix is less work than one for all, and answers as well.
    """

    name = "low-rank"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Factorise what pays.

        Raises:
            InvalidConfiguration: no large layers, no real rows, or no matrix is of low enough rank.
        """
        end_s = time.monotonic() + job.seconds
        if not job.real:
            raise InvalidConfiguration("which directions matter is learned from real rows: give some with --data")
        model = read_whole(job.model)
        require_weights(model)
        layers = [layer for layer in layers_of(model) if _large(layer)]
        if not layers:
            raise InvalidConfiguration(
                f"no product has a constant matrix of {_LEAST_PRODUCT:,} numbers, and no convolution one of"
                f" {_LEAST_CONVOLUTION:,}"
            )
        moments, constants = moments_of(job, model, layers), constants_of(model)
        factors = [_factors(layer, layer.matrix(constants), moments[layer.name]) for layer in layers]
        expected = answers(job, job.model)
        made = []
        for kept in KEPT:
            thin, count = factorised(model, {each.layer.name: (each, each.rank(kept)) for each in factors})
            if count:
                name = f"low-rank-{100 * kept:g}"
                artifact = job.workdir / f"{name}.onnx"
                onnx.save_model(thin, artifact)
                error = relative_error(expected, answers(job, artifact))
                note = f"{count} of {len(layers)} matrices in two, answers off by {error:.1%}"
                made.append(Made(name, "fp32", artifact, note=note))
        if len(factors) > 1:
            made += _searched(job, model, factors, expected, end_s)
        if not made:
            raise InvalidConfiguration("every matrix needs nearly its full rank: two thin ones would be more work")
        return made


def _searched(
    job: MakerJob, model: onnx.ModelProto, factors: list[Factors], expected: Floats, end_s: float
) -> list[Made]:
    """``low-rank-searched``: a share of energy of its own for each matrix, if that is less work than one for all."""
    artifact = job.workdir / "low-rank-searched.onnx"

    def ranks(levels: tuple[int, ...]) -> list[int]:
        return [each.rank(LEVELS[level]) for each, level in zip(factors, levels, strict=True)]

    def try_out(levels: tuple[int, ...]) -> tuple[float, float]:
        chosen = dict(zip((each.layer.name for each in factors), zip(factors, ranks(levels), strict=True), strict=True))
        onnx.save_model(factorised(model, chosen)[0], artifact)
        work = sum(each.work(rank) for each, rank in zip(factors, ranks(levels), strict=True))
        return work / sum(each.layer.size for each in factors), relative_error(expected, answers(job, artifact))

    first = (LEVELS.index(SEARCHED_FROM),) * len(factors)
    cost, error = try_out(first)
    best = search(
        Question(
            choices=(len(LEVELS),) * len(factors),
            first=first,
            try_out=try_out,
            error_limit=error,
            seconds=SEARCH_SHARE * (end_s - time.monotonic()),
            storage=job.journal,
            key=job.key,
        )
    )
    if best.cost > _WORTH * cost:
        return []
    try_out(best.levels)
    note = f"{sum(map(bool, ranks(best.levels)))} of {len(factors)} matrices in two, answers off by {best.error:.1%}"
    return [Made("low-rank-searched", "fp32", artifact, note=note)]


def _large(layer: Layer) -> bool:
    return layer.size >= (_LEAST_PRODUCT if layer.window is None else _LEAST_CONVOLUTION)


def _factors(layer: Layer, matrix: Floats, moments: Moments) -> Factors:
    covariance = moments.products
    ridge = _RIDGE * float(np.trace(covariance)) / len(covariance) + 1e-12
    lower = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
    left, values, right = np.linalg.svd(lower.T @ matrix, full_matrices=False)
    root = np.sqrt(values)
    return Factors(layer, np.linalg.solve(lower.T, left * root), root[:, None] * right, values**2)


def factorised(model: onnx.ModelProto, ranks: dict[str, tuple[Factors, int]]) -> tuple[onnx.ModelProto, int]:
    """A copy with two nodes in place of one, by the node's name, where the rank is not 0; and how many those are."""
    thin = onnx.ModelProto()
    thin.CopyFrom(model)
    nodes, added, count = [], dict[str, NDArray[Any]](), 0
    for node in model.graph.node:
        factors, rank = ranks.get(node.name, (None, 0))
        if factors is None or not rank:
            nodes.append(node)
            continue
        count += 1
        nodes += _two_nodes(node, factors.layer)
        straight = msgspec.structs.replace(factors.layer, transposed=False)
        added[f"{node.name}_a"] = straight.tensor(factors.first[:, :rank])
        second = np.ascontiguousarray(factors.second[:rank], np.float32)
        # Behind a convolution: one with a kernel of 1×1, channels of output before channels of input.
        added[f"{node.name}_b"] = second if factors.layer.window is None else second.T[:, :, None, None].copy()
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del thin.graph.node[:]
    thin.graph.node.extend(copies)
    replace_constants(thin, added)
    return thin, count


def _two_nodes(node: onnx.NodeProto, layer: Layer) -> list[onnx.NodeProto]:
    inner = f"{node.name}_thin"
    first, second = onnx.NodeProto(), onnx.NodeProto()
    first.CopyFrom(node)
    second.CopyFrom(node)
    del second.attribute[:]
    if layer.window is None:
        first = helper.make_node("MatMul", [], [])
    for part, inputs, outputs, suffix in (
        (first, [layer.source, f"{node.name}_a"], [inner], "_thin"),
        (second, [inner, f"{node.name}_b", *node.input[2:]], list(node.output), ""),
    ):
        del part.input[:], part.output[:]
        part.input.extend(inputs)
        part.output.extend(outputs)
        part.name = node.name + suffix
    return [first, second]
