"""Channels taken away whole: fewer of them in every layer, and nothing sparse about what is left.

No training and no labels: which channels can be told from the others, the calibration rows say. A channel costs what
the next layer's output loses when it is gone *and* that layer's other weights make up for it as well as they can, by
least squares (the "optimal brain surgeon" of Hassibi and Stork, for blocks of inputs, as in ThiNet's and SparseGPT's
layer-wise form). With ``C = XᵀX`` of the next layer's input and ``H = C⁻¹``, taking the inputs c away costs
``tr(Wcᵀ · Hcc⁻¹ · Wc)`` and changes the other weights by ``-H·c · Hcc⁻¹ · Wc``; one channel after another is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.chains import Chain, chains_of
from setpoint.optimize.makers.graphs import answers, read_whole, relative_error, require_weights
from setpoint.optimize.makers.layers import Floats, Moments, constants_of, layers_of, moments_of, replace_constants
from setpoint.optimize.makers.levels import Question, search
from setpoint.optimize.makers.prepared import prepared

KEPT = (0.9995, 0.998, 0.99)
"""Shares of what each layer computes that are kept, a variant each."""
LEVELS = (1.0, 0.9999, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.96, 0.93, 0.9)
"""Shares that are tried for one layer where each has its own."""
SEARCHED_FROM = 0.998
SEARCH_SHARE = 0.5
"""Of the time that is left when variants with one share were made."""
_ORDER_SHARE = 0.5
"""Of what the maker may take, for finding out which channels go first."""
_WORTH = 0.9
"""Of the weights that one share for all leaves: a choice that does not save as much more is not worth a variant."""
_LEAST_CHANNELS = 8
_ROUND = 8
"""Channels are multiples of this, for the processor's vectors."""
_LEAST_SAVED = 0.1
"""Of the weights: less is within what measuring can tell."""
_RIDGE_LEAST, _RIDGE_PER_INPUT = 1e-4, 0.02
"""Of the mean variance, added to each: the more inputs for each row that was seen, the less their covariance says."""
_INPUTS_MOST = 2_048
"""Of the next layer: taking channels one by one inverts what is left again and again."""


class Taken(msgspec.Struct, frozen=True):
    """In which order a chain's channels go, and what has been lost by then.

    Attributes:
        chain: whose they are.
        order: channels, the one that costs least first.
        losses: of the next layer's output, as a share of it, when the first, the first two … are gone.
    """

    chain: Chain
    order: tuple[int, ...]
    losses: tuple[float, ...]

    def kept(self, share: float) -> list[int]:
        """The channels that stay where so much of the output must be kept; a multiple of ``_ROUND``."""
        gone = int(np.searchsorted(self.losses, 1.0 - share, side="right"))
        total = len(self.order)
        stay = max(_LEAST_CHANNELS, -(-(total - gone) // _ROUND) * _ROUND)
        return sorted(self.order[total - stay :]) if stay < total else list(range(total))


class PrunedMaker:
    """``pruned-99.95``, ``pruned-99.8`` and ``pruned-99``, by the per cent of each layer's output that is kept.

    ``pruned-searched`` where another share for each layer saves more than one for all, and answers as well.
    """

    name = "pruned"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Take away what the next layer can do without.

        Raises:
            InvalidConfiguration: no layer follows another, no real rows, or every channel is needed.
        """
        expected = answers(job, job.model)
        made = []
        pruning = Pruning(job)
        found = [(f"pruned-{100 * share:g}", model, kept) for share, model, kept in pruning.by_share(KEPT)]
        searched = pruning.searched(job, expected)
        for name, model, kept in [*found, *([("pruned-searched", *searched)] if searched else [])]:
            artifact = job.workdir / f"{name}.onnx"
            onnx.save_model(model, artifact)
            error = relative_error(expected, answers(job, artifact))
            made.append(Made(name, "fp32", artifact, note=f"channels kept: {kept}; answers off by {error:.1%}"))
        return made


class Pruning:
    """The original, and in which order the channels of its layers may go.

    Raises:
        InvalidConfiguration: no layer follows another, or no real rows.
    """

    def __init__(self, job: MakerJob) -> None:
        start_s = time.monotonic()
        if not job.real:
            raise InvalidConfiguration("which channels matter is learned from real rows: give some with --data")
        require_weights(read_whole(job.model))
        self._model = model = onnx.load_model(prepared(job, read_whole(job.model)))
        self._chains = chains = [chain for chain in chains_of(model, list(layers_of(model))) if _worth(chain)]
        if not chains:
            raise InvalidConfiguration("no layer's channels go into one next layer alone, so none can be taken away")
        constants = constants_of(model)
        self._moments = moments_of(job, model, [chain.consumer for chain in chains])
        self._fitted: dict[tuple[str, int], Floats] = {}
        self._end_s = start_s + job.seconds
        end_s = start_s + _ORDER_SHARE * job.seconds
        self._taken = [
            order_of(each, each.consumer.matrix(constants), self._moments[each.consumer.name], end_s) for each in chains
        ]

    def searched(self, job: MakerJob, expected: Floats) -> tuple[onnx.ModelProto, str] | None:
        """A share of its own for each layer, so that answers are no further off than with one share for all, which is
        that of ``SEARCHED_FROM``; None where that saves nothing more, or there is one layer only."""
        if len(self._taken) < 2:
            return None
        place = job.workdir / "searched.onnx"

        def try_out(levels: tuple[int, ...]) -> tuple[float, float]:
            stays = self._stays([LEVELS[level] for level in levels])
            onnx.save_model(self._without(stays), place)
            return 1.0 - saved_share(self._chains, stays), relative_error(expected, answers(job, place))

        first = (LEVELS.index(SEARCHED_FROM),) * len(self._taken)
        cost, error = try_out(first)
        best = search(
            Question(
                choices=(len(LEVELS),) * len(self._taken),
                first=first,
                try_out=try_out,
                error_limit=error,
                seconds=SEARCH_SHARE * (self._end_s - time.monotonic()),
                storage=job.journal,
                key=job.key,
            )
        )
        place.unlink(missing_ok=True)
        if best.cost > _WORTH * cost:
            return None
        stays = self._stays([LEVELS[level] for level in best.levels])
        return self._without(stays), self._words(stays)

    def _without(self, stays: dict[str, list[int]]) -> onnx.ModelProto:
        return without_channels(self._model, self._chains, stays, self._moments, self._fitted)

    def _stays(self, shares: Sequence[float]) -> dict[str, list[int]]:
        return {each.chain.producer.name: each.kept(share) for each, share in zip(self._taken, shares, strict=True)}

    def _words(self, stays: dict[str, list[int]]) -> str:
        return ", ".join(f"{len(stays[each.producer.name])} of {each.producer.outputs}" for each in self._chains)

    def by_share(self, shares: tuple[float, ...]) -> list[tuple[float, onnx.ModelProto, str]]:
        """For each share of what layers compute that must be kept: the graph, and what is left, in words.

        Raises:
            InvalidConfiguration: every channel is needed.
        """
        found, seen = [], set[str]()
        for share in shares:
            stays = self._stays([share] * len(self._taken))
            kept = self._words(stays)
            if kept in seen or saved_share(self._chains, stays) < _LEAST_SAVED:
                continue
            seen.add(kept)
            found.append((share, self._without(stays), kept))
        if not found:
            raise InvalidConfiguration("every channel is needed by the layer behind it")
        return found


def _worth(chain: Chain) -> bool:
    return chain.producer.outputs >= 2 * _LEAST_CHANNELS and chain.consumer.inputs <= _INPUTS_MOST


def order_of(chain: Chain, matrix: Floats, moments: Moments, end_s: float = math.inf) -> Taken:
    """Take one channel after another, the cheapest first; every one but the last few.

    Args:
        chain: whose channels they are.
        matrix, moments: of the next layer.
        end_s: by the monotonic clock; what was not taken by then stays.
    """
    block, channels = chain.block, chain.producer.outputs
    covariance = _ridged(moments)
    total = float(np.sum(matrix * (covariance @ matrix))) or 1.0
    weights, inverse = matrix.copy(), np.linalg.inv(covariance)
    alive, order, losses, lost = list(range(channels)), list[int](), list[float](), 0.0
    while len(alive) > _LEAST_CHANNELS and time.monotonic() < end_s:
        # By blocks: H_cc and W_c of every channel that is left.
        index = np.asarray(alive)[:, None] * block + np.arange(block)
        inner = inverse[index[:, :, None], index[:, None, :]]
        rows = weights[index]
        costs = np.einsum("cij,cij->c", rows, np.linalg.solve(inner, rows))
        cheapest = int(np.argmin(costs))
        gone = index[cheapest]
        change = np.linalg.solve(inner[cheapest], np.hstack([weights[gone], inverse[gone]]))
        columns = inverse[:, gone].copy()
        weights -= columns @ change[:, : weights.shape[1]]
        inverse -= columns @ change[:, weights.shape[1] :]
        lost += max(0.0, float(costs[cheapest]))
        order.append(alive.pop(cheapest))
        losses.append(lost / total)
    return Taken(chain, (*order, *alive), tuple(losses))


def _ridged(moments: Moments) -> Floats:
    products, inputs = moments.products, len(moments.products)
    share = max(_RIDGE_LEAST, _RIDGE_PER_INPUT * inputs / moments.rows)
    ridge = share * float(np.trace(products)) / inputs + 1e-12
    return np.asarray(products + ridge * np.eye(inputs), np.float64)


def saved_share(chains: list[Chain], stays: dict[str, list[int]]) -> float:
    """Of all weights of the layers concerned, those that go."""
    layers = {each.name: each for chain in chains for each in (chain.producer, chain.consumer)}
    before = sum(layer.size for layer in layers.values())
    inputs = {chain.consumer.name: len(stays[chain.producer.name]) / chain.producer.outputs for chain in chains}
    outputs = {name: len(kept) / layers[name].outputs for name, kept in stays.items()}
    after = sum(each.size * inputs.get(each.name, 1.0) * outputs.get(each.name, 1.0) for each in layers.values())
    return 1.0 - after / before


def without_channels(
    model: onnx.ModelProto,
    chains: list[Chain],
    stays: dict[str, list[int]],
    moments: dict[str, Moments],
    fitted: dict[tuple[str, int], Floats],
) -> onnx.ModelProto:
    """A copy with the channels that stay, each next layer's weights fitted to what it is still given.

    Args:
        model: the original.
        chains: of it.
        stays: channels, by the name of the layer that makes them.
        moments: of the next layers' inputs.
        fitted: matrices that were fitted before, by layer and number of channels; added to.
    """
    thin = onnx.ModelProto()
    thin.CopyFrom(model)
    constants = constants_of(model)
    changed: dict[str, NDArray[Any]] = {}
    matrices = {each.name: each.matrix(constants) for chain in chains for each in (chain.producer, chain.consumer)}
    layers = {each.name: each for chain in chains for each in (chain.producer, chain.consumer)}
    for chain in chains:
        kept = stays[chain.producer.name]
        inputs = (np.asarray(kept)[:, None] * chain.block + np.arange(chain.block)).ravel()
        key = chain.consumer.name, len(kept)
        if key not in fitted:
            products, matrix = _ridged(moments[chain.consumer.name]), matrices[chain.consumer.name]
            solved = np.linalg.solve(products[np.ix_(inputs, inputs)], products[inputs] @ matrix)
            fitted[key] = solved.astype(np.float64)
        matrices[chain.consumer.name] = fitted[key]
        if chain.reshape:
            changed[chain.reshape] = np.array([constants[chain.reshape][0], len(inputs)], np.int64)
    for chain in chains:
        kept = stays[chain.producer.name]
        matrices[chain.producer.name] = matrices[chain.producer.name][:, kept]
        for name in (chain.producer.bias, *chain.constants):
            if name:
                array = constants[name]
                axis = next(axis for axis, size in enumerate(array.shape) if size == chain.producer.outputs)
                changed[name] = np.ascontiguousarray(np.take(array, kept, axis=axis))
    changed |= {layers[name].weights: layers[name].tensor(matrix) for name, matrix in matrices.items()}
    replace_constants(thin, changed)
    del thin.graph.value_info[:]  # shapes that were inferred before
    return thin
