"""8-bit weights and activations with ranges taken from calibration rows: for convolutions above all.

Layers that hurt are left out by themselves: the tensors whose quantisation loses most (signal to noise, on the
calibration rows) name their nodes, and as many of the worst are excluded as it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        tries, problem = {}, ""
        for method in _METHODS:
            try:
                tries[method] = self._quantise(job, source, method, operators, ())
            except (ValueError, RuntimeError) as error:  # the tool cannot collect ranges this way for every graph
                problem = str(error)
        if not tries:
            raise InvalidConfiguration(f"no way of taking ranges works for this model: {problem}")
        errors = {method: relative_error(expected, answers(job, path)) for method, path in tries.items()}
        method = min(errors, key=errors.__getitem__)
        note = f"{method} ranges, answers off by {errors[method]:.1%}"
        made = [Made("int8-static", "int8", tries[method], note=note)]
        if errors[method] > GOOD_ERROR:
            made += self._mixed(job, source, method, operators, expected, errors[method])
        return made

    def _mixed(
        self,
        job: MakerJob,
        source: Path,
        method: str,
        operators: list[str] | None,
        expected: NDArray[np.float64],
        error: float,
    ) -> list[Made]:
        """The best of a few exclusion sets, each twice as large as the one before, if it is much better than none."""
        ranked, total = worst_nodes(job, source, job.workdir / f"{method}-0.onnx")
        best: tuple[float, Path, list[str]] | None = None
        groups, tried = 1, 0
        while groups <= max(1, int(_MOST_EXCLUDED * total)):
            excluded = list(dict.fromkeys(name for names in ranked[:groups] for name in names))
            groups *= 2
            if len(excluded) == tried:
                continue
            tried = len(excluded)
            path = self._quantise(job, source, method, operators, excluded)
            reached = relative_error(expected, answers(job, path))
            if best is None or reached < best[0]:
                best = reached, path, excluded
            if reached <= GOOD_ERROR:
                break
        if best is None or best[0] > 0.7 * error:
            return []
        reached, path, excluded = best
        if has_optuna():
            reached, path, excluded = self._narrowed(job, source, method, operators, expected, ranked, best)
        names = ", ".join(excluded[:3]) + (f" and {len(excluded) - 3} more" if len(excluded) > 3 else "")
        note = f"{method} ranges without {names}, answers off by {reached:.1%}"
        return [Made("int8-static-mixed", "int8", path, note=note)]

    def _narrowed(
        self,
        job: MakerJob,
        source: Path,
        method: str,
        operators: list[str] | None,
        expected: NDArray[np.float64],
        ranked: list[list[str]],
        best: tuple[float, Path, list[str]],
    ) -> tuple[float, Path, list[str]]:
        """The same closeness with fewer layers left out, if there is such a set among those that hurt most."""
        groups = ranked[:_SEARCHED_GROUPS]
        names_of = [set(names) for names in groups]
        first = tuple(int(not names <= set(best[2])) for names in names_of)

        def excluded_by(levels: tuple[int, ...]) -> list[str]:
            return list(
                dict.fromkeys(name for names, kept in zip(groups, levels, strict=True) if not kept for name in names)
            )

        def try_out(levels: tuple[int, ...]) -> tuple[float, float]:
            excluded = excluded_by(levels)
            path = self._quantise(job, source, method, operators, excluded)
            return len(excluded) / max(1, len(best[2])), relative_error(expected, answers(job, path))

        found = search(
            Question(
                choices=(2,) * len(groups),
                first=first,
                try_out=try_out,
                error_limit=max(best[0], GOOD_ERROR),
                seconds=_SEARCH_SHARE * job.seconds,
                storage=job.notes / f"{job.key}.journal" if job.notes else None,
                key=job.key,
            )
        )
        excluded = excluded_by(found.levels)
        if found.error > max(best[0], GOOD_ERROR) or len(excluded) >= len(best[2]):
            excluded = best[2]
        # Anew, since a set of as many nodes may have been written over it.
        path = self._quantise(job, source, method, operators, excluded)
        return relative_error(expected, answers(job, path)), path, excluded

    def _quantise(
        self,
        job: MakerJob,
        source: Path,
        method: str,
        operators: list[str] | None,
        excluded: tuple[str, ...] | list[str],
    ) -> Path:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        path = job.workdir / f"{method}-{len(excluded)}.onnx"
        x86 = job.architecture in ("x86_64", "AMD64")
        quantize_static(
            source,
            path,
            _Reader(job),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators,
            nodes_to_exclude=list(excluded),
            per_channel=True,
            reduce_range=job.saturates,
            # What the processor multiplies fast: unsigned by signed on x86, signed by signed on ARM.
            activation_type=QuantType.QUInt8 if x86 else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            # For what lies behind operators that shape inference does not know, such as scikit-learn's.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return path


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
