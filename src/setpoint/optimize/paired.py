"""How much worse is one set of answers than another, on the same examples, and how sure is that? Pure.

Both are asked about the same examples, so what counts is where they differ; an interval of each alone would be far too
wide. Where an example is right or wrong, Tango's score interval for the difference of paired proportions is used
(Statistics in Medicine 17, 1998): it stays honest where no example, or only a few, changed, which is when a bootstrap
claims to be certain. Everything else is bootstrapped over examples.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_Z = 1.959964
"""Of a 95 % interval with two ends. Only the upper one is used, so it is kept in 97.5 % of all cases."""
_RESAMPLES = 2000
_SET_RESAMPLES = 400
_SEED = 20_261
_BLOCK_ELEMENTS = 1 << 22


class Loss(msgspec.Struct, frozen=True):
    """What is lost, and its 95 % interval; negative where something is won.

    Attributes:
        value: as observed.
        low, high: ends of the interval.
        rows: examples it rests on.
        changed: examples whose score is another one.
    """

    value: float
    low: float
    high: float
    rows: int
    changed: int

    @property
    def left(self) -> float:
        """What is left in the worst case that the interval allows, 0 to 1."""
        return float(min(1.0, max(0.0, 1.0 - self.high)))


def loss_of_right_and_wrong(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Loss:
    """Loss in share of right answers.

    Args:
        before: by example, whether the original is right.
        after: the same of the variant.
    """
    rows = len(before)
    lost = int(np.count_nonzero(before & ~after))
    won = int(np.count_nonzero(after & ~before))
    low, high = tango_interval(lost, won, rows)
    return Loss((lost - won) / rows, low, high, rows, lost + won)


def tango_interval(lost: int, won: int, rows: int) -> tuple[float, float]:
    """95 % score interval of ``(lost - won) / rows``, where so many of the examples changed each way."""

    def statistic(delta: float) -> float:
        a = 2.0 * rows
        b = -lost - won + (2.0 * rows - lost + won) * delta
        c = -won * delta * (1.0 - delta)
        share = (sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
        variance = rows * (2.0 * share + delta * (1.0 - delta))
        distance = lost - won - rows * delta
        if variance <= 0.0:
            return 0.0 if distance == 0.0 else float(np.copysign(np.inf, distance))
        return distance / sqrt(variance)

    value = (lost - won) / rows
    # The statistic falls from one end of [-1, 1] to the other.
    return _where(statistic, _Z, -1.0, value), _where(statistic, -_Z, value, 1.0)


def _where(statistic: Callable[[float], float], level: float, low: float, high: float) -> float:
    """The argument at which a falling function reaches a level."""
    for _ in range(60):
        middle = (low + high) / 2
        if statistic(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def loss_of_scores(before: Floats, after: Floats) -> Loss:
    """Loss in the mean of scores of examples, higher ones being better: percentile bootstrap of paired differences."""
    difference = before - after
    rows = len(difference)
    random = np.random.default_rng(_SEED)
    means = np.empty(_RESAMPLES)
    step = max(1, _BLOCK_ELEMENTS // rows)
    for start in range(0, _RESAMPLES, step):
        count = min(step, _RESAMPLES - start)
        means[start : start + count] = difference[random.integers(0, rows, (count, rows))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Loss(float(difference.mean()), float(low), float(high), rows, int(np.count_nonzero(difference)))


def loss_of_set(
    value: Callable[[Any, NDArray[np.intp]], float],
    before: Any,
    after: Any,
    rows: int,
    changed: int,
    difference: Callable[[float, float], float],
) -> Loss:
    """Loss in a figure that is of all examples together, such as F1.

    Args:
        value: the figure of some examples, given answers and the examples' indices; NaN where it is not defined.
        before, after: answers of the original and of the variant.
        rows: how many examples there are.
        changed: how many of them were answered differently.
        difference: the loss between two figures.
    """
    random = np.random.default_rng(_SEED)
    everything = np.arange(rows)
    losses = []
    for _ in range(_SET_RESAMPLES):
        which = random.integers(0, rows, rows)
        one = difference(value(before, which), value(after, which))
        if np.isfinite(one):
            losses.append(one)
    observed = difference(value(before, everything), value(after, everything))
    low, high = (float(end) for end in np.quantile(losses, (0.025, 0.975))) if losses else (-1.0, 1.0)
    if changed == 0:
        # Nothing seen to change resamples to nothing: as with right and wrong, allow for what was not seen.
        high = max(high, tango_interval(0, 0, rows)[1])
    return Loss(observed, low, high, rows, changed)
