"""8-bit weights and activations with ranges taken from calibration rows: for convolutions above all.

Layers that hurt are left out by themselves: the tensors whose quantisation loses most (signal to noise, on the
calibration rows) name their nodes, and as many of the worst are excluded as it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import (
    answers,
    calibration_batches,
    read_whole,
    relative_error,
    require_weights,
)
from setpoint.optimize.makers.levels import Question, has_optuna, search
from setpoint.optimize.makers.prepared import prepared

_QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_MOST_EXCLUDED = 0.5
"""Of all products and convolutions: beyond it little is left that is quantised."""
_CLEAN_DECIBELS = 60.0
"""Signal to noise of what was not rounded yet."""
_SEARCHED_GROUPS = 16
"""Of those that hurt most: which of them are left out is searched where Optuna is installed."""
_SEARCH_SHARE = 0.3
"""Of what the maker may take."""
GOOD_ERROR = 0.02
"""Relative error of the answers at which no layer is left out: far below what turns a decision."""
_METHODS = ("MinMax", "Percentile")
_WATCHED_BATCHES = 2
"""Of calibration rows, for finding what hurts: every activation of every layer is kept for them."""
_PRODUCTS_ONLY = ["MatMul", "Gemm"]


class StaticInt8Maker:
    """``int8-static``, and ``int8-static-mixed`` where leaving layers out brings the answers closer."""

    name = "int8-static"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Quantise with the calibration method whose answers are closest; then exclude what hurts.

        Raises:
            InvalidConfiguration: nothing to quantise, or no real rows to take ranges from.
        """
        if not job.real:
            raise InvalidConfiguration("ranges of activations need real rows: give some with --data")
        model = read_whole(job.model)
        found = require_weights(model)
        source = prepared(job, model)
        expected = answers(job, job.model)
        # In a transformer the sums and norms between products lose more than they save; between convolutions a graph
        # must stay quantised throughout, or it converts to and fro.
        operators = None if found.convolutions else _PRODUCTS_ONLY
        tries, problem = list[tuple[_Way, _Try]](), ""
        for method in _METHODS:
            way = _Way(job, source, method, operators, expected)
            try:
                path = way.quantised(())
            except (ValueError, RuntimeError) as error:  # the tool cannot collect ranges this way for every graph
                problem = str(error)
                continue
            tries.append((way, _Try(way.error_of(path), path, ())))
        if not tries:
            raise InvalidConfiguration(f"no way of taking ranges works for this model: {problem}")
        way, whole = min(tries, key=lambda pair: pair[1].error)
        note = f"{way.method} ranges, answers off by {whole.error:.1%}"
        made = [Made("int8-static", "int8", whole.path, note=note)]
        if whole.error > GOOD_ERROR:
            made += _mixed(way, whole)
        return made


class _Try(msgspec.Struct, frozen=True):
    """What was quantised without some nodes, and how far its answers are off."""

    error: float
    path: Path
    excluded: tuple[str, ...]


class _Way(msgspec.Struct, frozen=True):
    """How a model is quantised, and what the answers are compared with.

    Attributes:
        job: whose calibration rows and processor count.
        source: the prepared graph.
        method: of taking ranges, one of ``_METHODS``.
        operators: to quantise; None for all.
        expected: the original's answers.
    """

    job: MakerJob
    source: Path
    method: str
    operators: list[str] | None
    expected: NDArray[np.float64]

    def without(self, excluded: tuple[str, ...]) -> _Try:
        """Quantise all but these nodes, and ask it."""
        path = self.quantised(excluded)
        return _Try(self.error_of(path), path, excluded)

    def error_of(self, path: Path) -> float:
        """How far its answers are off."""
        return relative_error(self.expected, answers(self.job, path))

    def quantised(self, excluded: tuple[str, ...]) -> Path:
        """The file. One of as many excluded nodes as another is written over that."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        path = self.job.workdir / f"{self.method}-{len(excluded)}.onnx"
        x86 = self.job.architecture in ("x86_64", "AMD64")
        quantize_static(
            self.source,
            path,
            _Reader(self.job),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=self.operators,
            nodes_to_exclude=list(excluded),
            per_channel=True,
            reduce_range=self.job.saturates,
            # What the processor multiplies fast: unsigned by signed on x86, signed by signed on ARM.
            activation_type=QuantType.QUInt8 if x86 else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[self.method],
            # For what lies behind operators that shape inference does not know, such as scikit-learn's.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return path


def _mixed(way: _Way, whole: _Try) -> list[Made]:
    """The best of a few exclusion sets, each twice as large as the one before, if it is much better than none."""
    ranked, total = worst_nodes(way.job, way.source, whole.path)
    best: _Try | None = None
    groups, tried = 1, 0
    while groups <= max(1, int(_MOST_EXCLUDED * total)):
        excluded = tuple(dict.fromkeys(name for names in ranked[:groups] for name in names))
        groups *= 2
        if len(excluded) == tried:
            continue
        tried = len(excluded)
        found = way.without(excluded)
        if best is None or found.error < best.error:
            best = found
        if found.error <= GOOD_ERROR:
            break
    if best is None or best.error > 0.7 * whole.error:
        return []
    if has_optuna():
        best = _narrowed(way, ranked, best)
    left_out = best.excluded
    names = ", ".join(left_out[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
    note = f"{way.method} ranges without {names}, answers off by {best.error:.1%}"
    return [Made("int8-static-mixed", "int8", best.path, note=note)]


def _narrowed(way: _Way, ranked: list[list[str]], best: _Try) -> _Try:
    """The same closeness with fewer layers left out, if there is such a set among those that hurt most."""
    groups, job = ranked[:_SEARCHED_GROUPS], way.job
    first = tuple(int(not set(names) <= set(best.excluded)) for names in groups)
    error_limit = max(best.error, GOOD_ERROR)

    def excluded_by(levels: tuple[int, ...]) -> tuple[str, ...]:
        left_out = [names for names, kept in zip(groups, levels, strict=True) if not kept]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(left_out)))

    def try_out(levels: tuple[int, ...]) -> tuple[float, float]:
        excluded = excluded_by(levels)
        return len(excluded) / max(1, len(best.excluded)), way.without(excluded).error

    found = search(
        Question(
            choices=(2,) * len(groups),
            first=first,
            try_out=try_out,
            error_limit=error_limit,
            seconds=_SEARCH_SHARE * job.seconds,
            storage=job.journal,
            key=job.key,
        )
    )
    excluded = excluded_by(found.levels)
    if found.error > error_limit or len(excluded) >= len(best.excluded):
        excluded = best.excluded
    return way.without(excluded)  # anew, since a set of as many nodes may have been written over it


class _Reader:
    """Calibration rows in the shapes that onnxruntime's tools ask for them: one calls ``get_next``, one iterates."""

    def __init__(self, job: MakerJob, batches: int | None = None) -> None:
        self._job = job
        self._most = batches
        self.rewind()

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return self._batches

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next few rows, or None."""
        return next(self._batches, None)

    def rewind(self) -> None:
        """Begin again."""
        self._batches = itertools.islice(calibration_batches(self._job), self._most)


def worst_nodes(job: MakerJob, source: Path, quantised: Path) -> tuple[list[list[str]], int]:
    """Groups of nodes to leave out, the one that hurts most first: a product or convolution and what feeds it.

    A tensor's error against the original's tensor holds that of everything before it; what a node adds is the loss
    between its inputs and its output, in decibels, on the calibration rows. What feeds it must be left out with it, or
    its input stays rounded.

    Returns:
        names of nodes by group, and how many nodes there are that are worth quantising.
    """
    from onnxruntime.quantization.qdq_loss_debug import (
        collect_activations,
        compute_activation_error,
        create_activation_matching,
        modify_model_output_intermediate_tensors,
    )

    watched = job.workdir / "watched.onnx"
    seen = []
    for path in (source, quantised):
        modify_model_output_intermediate_tensors(path, watched)
        seen.append(collect_activations(str(watched), _Reader(job, _WATCHED_BATCHES)))
    watched.unlink()
    errors = compute_activation_error(create_activation_matching(seen[1], seen[0]))
    decibels = {
        name: found["xmodel_err"] for name, found in errors.items() if np.isfinite(found.get("xmodel_err", np.nan))
    }
    graph = onnx.load_model(source, load_external_data=False).graph
    maker_of = {name: node for node in graph.node for name in node.output}
    weighty = [node for node in graph.node if node.op_type in _QUANTISED]
    added = {node.name: _before(node, maker_of, decibels) - _after(node, graph, decibels) for node in weighty}
    ranked = sorted(weighty, key=lambda node: -added[node.name])
    return [_with_what_feeds_it(node, maker_of) for node in ranked], len(weighty)


def _before(node: onnx.NodeProto, maker_of: dict[str, onnx.NodeProto], decibels: dict[str, float]) -> float:
    """Signal to noise of what goes into a node: its worst input, or the nearest watched tensor before that."""
    found = []
    for name in node.input:
        while name not in decibels and name in maker_of and maker_of[name].op_type not in _QUANTISED:
            name = maker_of[name].input[0]
        found.append(decibels.get(name, _CLEAN_DECIBELS))
    return min(found, default=_CLEAN_DECIBELS)


def _after(node: onnx.NodeProto, graph: onnx.GraphProto, decibels: dict[str, float]) -> float:
    """Signal to noise of what comes out: its output, or the nearest watched tensor behind it."""
    name = node.output[0]
    for _ in range(len(graph.node)):
        if name in decibels:
            return decibels[name]
        takers = [other for other in graph.node if name in other.input]
        if not takers or takers[0].op_type in _QUANTISED:
            break
        name = takers[0].output[0]
    return _CLEAN_DECIBELS


def _with_what_feeds_it(node: onnx.NodeProto, maker_of: dict[str, onnx.NodeProto]) -> list[str]:
    """The node and those before it, up to and with the nearest products or convolutions."""
    group, waiting = [node.name], list(node.input)
    while waiting:
        maker = maker_of.get(waiting.pop())
        if maker is not None and maker.name not in group:
            group.append(maker.name)
            if maker.op_type not in _QUANTISED:
                waiting += maker.input
    return group
