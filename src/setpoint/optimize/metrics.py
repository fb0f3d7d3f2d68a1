"""How good answers are: by labels where there are any, else by their agreement with the original's answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration
from setpoint.optimize.paired import Loss, loss_of_right_and_wrong, loss_of_scores, loss_of_set

Array = NDArray[Any]
Outputs = Mapping[str, Array]
UserMetric = Callable[[dict[str, Array], Array | None], Any]

METRICS = ("accuracy", "top5", "f1", "roc-auc", "rmse", "cosine", "agreement")
_UNIT = 1e-2
_TOP = 5


class Verdict(msgspec.Struct, frozen=True):
    """A variant's answers against the original's.

    Attributes:
        metric: what was judged by.
        before, after: the metric of the original and of the variant.
        loss: between them; in points of the metric, for rmse as a share of the original's.
    """

    metric: str
    before: float
    after: float
    loss: Loss


class Judge:
    """Judges variants by one metric on one set of examples.

    Args:
        metric: one of ``METRICS``; empty chooses by what labels and answers look like.
        original: the original's answers, by output name, rows first.
        labels: the right answers; None judges by agreement with the original.
        user: the user's own function of (outputs, labels), in place of ``metric``: a score for each row, higher
            being better, or one figure for all.

    Raises:
        InvalidConfiguration: the metric does not go with the labels or the outputs.
    """

    def __init__(self, metric: str, original: Outputs, labels: Array | None, user: UserMetric | None = None) -> None:
        self._original = original
        self._labels = labels
        self._user = user
        named = getattr(user, "__name__", "yours")
        self.metric = str(named) if user is not None else metric or choose(original, labels)
        if user is None and self.metric not in METRICS:
            raise InvalidConfiguration(f"there is no metric {self.metric!r}; expected one of {', '.join(METRICS)}")
        if user is None and labels is None and self.metric not in ("cosine", "agreement", "rmse"):
            raise InvalidConfiguration(
                f"{self.metric} needs labels: put one more array into the .npz; without labels there are"
                " agreement, cosine and rmse, which compare with the original"
            )

    def judge(self, variant: Outputs) -> Verdict:
        """Compare a variant's answers with the original's."""
        if any(variant[name].shape != answers.shape for name, answers in self._original.items()):
            rows = len(next(iter(self._original.values())))
            return Verdict(self.metric, 1.0, 0.0, Loss(1.0, 1.0, 1.0, rows, rows))
        if self._user is not None:
            return self._yours(variant)
        match self.metric:
            case "accuracy" | "top5" | "agreement":
                return self._right_and_wrong(variant)
            case "cosine":
                return self._cosine(variant)
            case _:
                return self._of_all(variant)

    def _right_and_wrong(self, variant: Outputs) -> Verdict:
        if self.metric == "agreement":
            decided = classes(self._original)
            before, after = np.ones(len(decided), np.bool_), classes(variant) == decided
        else:
            most = _TOP if self.metric == "top5" else 1
            before, after = (_right(outputs, self._labels, most) for outputs in (self._original, variant))
        return Verdict(self.metric, float(before.mean()), float(after.mean()), loss_of_right_and_wrong(before, after))

    def _cosine(self, variant: Outputs) -> Verdict:
        target = vectors(self._original) if self._labels is None else self._labels.astype(np.float64)
        before, after = (_cosines(vectors(outputs), target) for outputs in (self._original, variant))
        return Verdict(self.metric, float(before.mean()), float(after.mean()), loss_of_scores(before, after))

    def _of_all(self, variant: Outputs) -> Verdict:
        """Figures of all examples together: F1, ROC-AUC, RMSE."""
        before, after = self._figures_of(self._original), self._figures_of(variant)
        target = before if self._labels is None else self._labels
        figure, relative = {"f1": _f1, "roc-auc": _roc_auc, "rmse": _rmse}[self.metric], self.metric == "rmse"
        if relative and self._labels is None:
            # Against itself the original's error is 0: the variant's is taken as a share of how far its answers vary.
            scale = float(np.std(before)) or 1.0
            scores = 1.0 - np.sqrt(((after - before) ** 2).reshape(len(before), -1).mean(axis=1)) / scale
            return Verdict("rmse", 0.0, _rmse(after, before), loss_of_scores(np.ones_like(scores), scores))

        def value(answers: Array, which: NDArray[np.intp]) -> float:
            return figure(answers[which], target[which])

        def difference(one: float, other: float) -> float:
            return (other - one) / one if relative and one else other - one if relative else one - other

        changed = int(np.count_nonzero((before != after).reshape(len(before), -1).any(axis=1)))
        loss = loss_of_set(value, before, after, len(before), changed, difference)
        everything = np.arange(len(before))
        return Verdict(self.metric, value(before, everything), value(after, everything), loss)

    def _figures_of(self, outputs: Outputs) -> Array:
        if self.metric == "f1":
            return classes(outputs)
        return vectors(outputs) if self.metric == "roc-auc" else numbers(outputs)

    def _yours(self, variant: Outputs) -> Verdict:
        assert self._user is not None
        user, labels = self._user, self._labels
        before, after = (np.asarray(user(dict(outputs), labels), np.float64) for outputs in (self._original, variant))
        rows = len(next(iter(variant.values())))
        if before.shape == after.shape == (rows,):
            binary = all(np.isin(scores, (0.0, 1.0)).all() for scores in (before, after))
            loss = loss_of_right_and_wrong(before > 0, after > 0) if binary else loss_of_scores(before, after)
            return Verdict(self.metric, float(before.mean()), float(after.mean()), loss)
        if before.ndim or after.ndim:
            raise InvalidConfiguration(
                f"the metric function gave shape {list(after.shape)}; expected one score for each of {rows} rows,"
                " or one number"
            )

        def value(outputs: Outputs, which: NDArray[np.intp]) -> float:
            some = {name: array[which] for name, array in outputs.items()}
            return float(user(some, None if labels is None else labels[which]))

        changed = int(np.count_nonzero(_rows_changed(self._original, variant)))
        loss = loss_of_set(value, self._original, variant, rows, changed, lambda one, other: one - other)
        return Verdict(self.metric, float(before), float(after), loss)


def choose(outputs: Outputs, labels: Array | None) -> str:
    """The metric that labels and answers suggest."""
    if labels is not None:
        if labels.dtype.kind in "iubSUO" and labels.ndim == 1:
            return "accuracy"
        return "cosine" if labels.ndim == 2 and labels.shape[1] > 1 else "rmse"
    if _integer_output(outputs) is not None:
        return "agreement"
    answers = numbers(outputs)
    if answers.ndim == 1 or answers.shape[-1] == 1:
        return "rmse"
    if answers.ndim == 2 and (answers >= -_UNIT).all() and np.allclose(answers.sum(axis=1), 1.0, atol=_UNIT):
        return "agreement"
    return "cosine"


def classes(outputs: Outputs) -> Array:
    """The class that each row was given: a one-dimensional output of classes, or where the widest output is largest."""
    decided = _integer_output(outputs)
    if decided is not None:
        return decided
    scores = numbers(outputs)
    if scores.ndim == 1 or scores.shape[-1] == 1:
        return (scores.reshape(len(scores)) > 0.5).astype(np.int64)
    best: Array = scores.reshape(len(scores), -1).argmax(axis=1)
    return best


def vectors(outputs: Outputs) -> Array:
    """The widest float output, one vector for each row."""
    widest = numbers(outputs)
    return widest.reshape(len(widest), -1)


def numbers(outputs: Outputs) -> Array:
    """The widest float output.

    Raises:
        InvalidConfiguration: there is none.
    """
    floats = [np.asarray(array, np.float64) for array in outputs.values() if _is_float(array)]
    if not floats:
        raise InvalidConfiguration(
            f"outputs {', '.join(outputs)} hold no floats to judge by; use accuracy or agreement"
        )
    return max(floats, key=lambda array: array.size)


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _integer_output(outputs: Outputs) -> Array | None:
    found = [array for array in outputs.values() if array.dtype.kind in "iubO" and array.size == len(array)]
    return found[0].reshape(-1) if found else None


def _right(outputs: Outputs, labels: Array | None, most: int) -> NDArray[np.bool_]:
    assert labels is not None
    if most > 1:
        best = np.argsort(-vectors(outputs), axis=1)[:, :most]
        right: NDArray[np.bool_] = (best == labels[:, None]).any(axis=1)
        return right
    decided = classes(outputs)
    if decided.dtype.kind == "O":  # BYTES
        labels = np.array([str(label) for label in labels])
        decided = np.array([bytes(answer).decode(errors="replace") for answer in decided])
    return np.asarray(decided == labels, np.bool_)


def _cosines(left: Array, right: Array) -> Array:
    right = right.reshape(len(right), -1)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products: Array = np.nan_to_num((left * right).sum(axis=1) / np.where(lengths > 0, lengths, 1.0), nan=-1.0)
    both_zero = np.abs(left - right).sum(axis=1) == 0
    return np.asarray(np.where(lengths > 0, products, both_zero.astype(np.float64)), np.float64)


def _f1(decided: Array, labels: Array) -> float:
    """Mean over classes."""
    each = []
    for label in np.unique(labels):
        hit = np.count_nonzero((decided == label) & (labels == label))
        each.append(2 * hit / (np.count_nonzero(decided == label) + np.count_nonzero(labels == label)))
    return float(np.mean(each))


def _roc_auc(scores: Array, labels: Array) -> float:
    """The chance that a row of a class scores higher for it than another row; the mean over classes."""
    names = np.unique(labels)
    if len(names) < 2:
        return float("nan")
    if scores.shape[1] <= 2:
        return _auc(scores[:, -1], labels == names[-1])
    return float(np.mean([_auc(scores[:, int(name)], labels == name) for name in names]))


def _auc(scores: Array, positive: NDArray[np.bool_]) -> float:
    ascending = np.sort(scores)
    below, upto = (np.searchsorted(ascending, scores, side) for side in ("left", "right"))
    ranks = (below + upto + 1) / 2
    count, others = np.count_nonzero(positive), np.count_nonzero(~positive)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def _rmse(answers: Array, labels: Array) -> float:
    return float(np.sqrt(np.mean((answers.reshape(len(answers), -1) - labels.reshape(len(labels), -1)) ** 2)))


def _rows_changed(one: Outputs, other: Outputs) -> NDArray[np.bool_]:
    by_output = [(one[name] != other[name]).reshape(len(one[name]), -1).any(axis=1) for name in one]
    return np.asarray(np.any(by_output, axis=0), np.bool_)
