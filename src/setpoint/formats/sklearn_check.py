"""Does the converted model answer as the estimator does? Every output, at several batch sizes, or packing fails.

Two honest reasons for a row to differ are told apart from a wrong conversion, and counted: the row lies so close to a
decision boundary that float32 cannot tell its sides apart (then the estimator itself gives the converted answer a few
units in the last place away), and the row is a tie (then either label is right).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import ConversionMismatch, ModelError, datatype_of
from setpoint.engines import EngineOptions, load_onnx
from setpoint.formats.equivalence import EXACT, Difference, Tolerance, closeness, compare, tolerance_for

_METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")
_SINGLE_ROWS, _GROUP_ROWS = 8, 7
_EXCUSABLE_SHARE = 0.05
_NUDGES, _NUDGE_UNITS = 64, 8  # copies of a row, each value moved by up to so many units in the last place
_REMEDY = "wrap it in a Python class to serve it as it is, or check with your own rows: --sample rows.npz"

Answers = dict[str, NDArray[Any]]


class _Match(msgspec.Struct, frozen=True):
    """An output, the method it comes closest to, and by how much it is off."""

    output: str
    method: str
    expected: NDArray[Any]
    actual: NDArray[Any]
    tolerance: Tolerance
    difference: Difference


def check_conversion(
    estimator: Any, artifact: Path, input_name: str, rows: NDArray[np.float32], what: str, origin: str
) -> tuple[str, ...]:
    """Compare an estimator with its conversion.

    Args:
        estimator: the source of truth.
        artifact: the ``.onnx`` file, with one input ``[rows, columns]``.
        input_name: of that input.
        rows: to ask both about.
        what: the conversion in words, for the error.
        origin: of the rows in words.

    Returns:
        what was compared and how close it came.

    Raises:
        ConversionMismatch: an output is not what any method of the estimator gives.
    """
    expected = _source_answers(estimator, rows)
    try:
        executable = load_onnx(artifact, EngineOptions(), quiet=True)
        whole = executable.run({input_name: rows})
        parts = [*(slice(row, row + 1) for row in range(min(_SINGLE_ROWS, len(rows)))), slice(0, _GROUP_ROWS)]
        answers = [(part, executable.run({input_name: rows[part]})) for part in parts]
    except ModelError as error:
        raise ConversionMismatch(f"{what} does not run where the estimator does ({error}); {_REMEDY}") from error
    matches = [_match(name, actual, expected, what) for name, actual in whole.items()]
    excuses = _Excuses(estimator, rows, expected, matches)
    excused = sum(_judge(match, excuses, what, origin) for match in matches)
    for part, answer in answers:
        _judge_part(part, answer, matches, len(rows), what)
    agreement = ", ".join(f"{match.output} = {match.method} {_closeness(match.difference)}" for match in matches)
    sizes = f"{len(rows)} {origin}, batches of 1, {min(_GROUP_ROWS, len(rows))} and {len(rows)}"
    told = [f"converted answers: {agreement} ({sizes})"]
    if excused:
        told.append(f"{excused} answers lie on a decision boundary or are ties, where float32 takes the other side")
    return (*told, *_missing_values(estimator, executable.run, input_name, rows, matches))


def _closeness(difference: Difference) -> str:
    if difference.within:
        return closeness(difference.worst_of_scale)
    return f"but for {len(difference.rows)} rows"


def _source_answers(estimator: Any, rows: NDArray[np.float32]) -> Answers:
    """What each of the estimator's methods answers to the same numbers, in double precision."""
    answers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as about column names, which a served model has not
        for method in _METHODS:
            if not hasattr(estimator, method):
                continue
            try:
                answers[method] = _as_array(getattr(estimator, method)(rows.astype(np.float64)))
            except Exception:  # noqa: S112 - a method the model is not made for; the others decide
                continue
    return answers


def _as_array(answer: Any) -> NDArray[Any]:
    if hasattr(answer, "toarray"):  # sparse
        answer = answer.toarray()
    array = np.stack(answer) if isinstance(answer, list) else np.asarray(answer)
    if array.dtype.kind in "UO":
        encoded = np.empty(array.size, np.object_)
        encoded[:] = [str(element).encode() for element in array.ravel().tolist()]
        return encoded.reshape(array.shape)
    return array


def _match(name: str, actual: NDArray[Any], expected: Answers, what: str) -> _Match:
    """The estimator's method that an output comes closest to."""
    matches = [
        _Match(name, method, aligned, actual, tolerance, compare(aligned, actual, tolerance))
        for method, answer in expected.items()
        if (aligned := _aligned(answer, actual)) is not None
        for tolerance in [EXACT if not datatype_of(answer.dtype).is_float else tolerance_for(actual)]
    ]
    if not matches:
        shapes = ", ".join(f"{method} {list(answer.shape)}" for method, answer in expected.items())
        raise ConversionMismatch(
            f"{what} gives {name!r} of shape {list(actual.shape)}, like none of the estimator's answers"
            f" ({shapes}); {_REMEDY}"
        )
    return min(matches, key=lambda match: (match.difference.share, match.difference.worst_absolute))


def _aligned(answer: NDArray[Any], actual: NDArray[Any]) -> NDArray[Any] | None:
    """``answer`` in the shape of ``actual`` when they differ by axes of length 1 only, and are of comparable types."""
    texts = [datatype_of(array.dtype).name == "BYTES" for array in (answer, actual)]
    if texts[0] != texts[1] or _essential(answer) != _essential(actual):
        return None
    return answer.reshape(actual.shape)


def _essential(array: NDArray[Any]) -> tuple[int, ...]:
    return tuple(length for length in array.shape if length != 1)


def _judge(match: _Match, excuses: _Excuses, what: str, origin: str) -> int:
    """How many rows of an output are excused.

    Raises:
        ConversionMismatch: at least one that differs is not.
    """
    difference = match.difference
    if difference.within:
        return 0
    if difference.share <= _EXCUSABLE_SHARE and all(excuses.cover(match, row) for row in difference.rows):
        return len(difference.rows)
    raise ConversionMismatch(
        f"{what} differs from it: {match.output} against {match.method}: {difference}"
        f" ({origin}; allowed {match.tolerance}); {_REMEDY}"
    )


class _Excuses:
    """The two reasons for which a row may differ."""

    def __init__(self, estimator: Any, rows: NDArray[np.float32], expected: Answers, matches: list[_Match]) -> None:
        self._estimator = estimator
        self._rows = rows
        scores = ("predict_proba", "decision_function")
        self._scores = next((expected[method] for method in scores if method in expected), None)
        # Twice what the scores themselves are off by: two classes closer than that may change places.
        within = [match.difference for match in matches if match.method in scores and match.difference.within]
        self._slack = max([1e-6, *(2 * difference.worst_absolute for difference in within)])

    def cover(self, match: _Match, row: int) -> bool:
        """Whether the row is a tie or lies on a boundary."""
        if len(match.actual) != len(self._rows):
            return False
        return self._is_tie(match, row) or self._is_boundary(match, row)

    def _is_tie(self, match: _Match, row: int) -> bool:
        """Whether a label differs because several classes score alike."""
        classes = getattr(self._estimator, "classes_", None)
        if match.method != "predict" or self._scores is None or classes is None or match.actual[row].size != 1:
            return False
        if self._scores.shape != (len(self._rows), len(classes)):
            return False
        score = self._scores[row]
        near = score >= score.max() - self._slack
        tied = _as_array(np.asarray(classes)[near])
        return bool(near.sum() > 1 and match.actual[row].reshape(-1)[0] in tied.tolist())

    def _is_boundary(self, match: _Match, row: int) -> bool:
        """Whether the estimator gives the converted answer to some row within a few float32 units of this one."""
        random = np.random.default_rng(row)
        units = random.integers(-_NUDGE_UNITS, _NUDGE_UNITS + 1, (_NUDGES, self._rows.shape[1]))
        value = self._rows[row]
        nudged = value.astype(np.float64) + units * np.spacing(np.abs(value)).astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = _as_array(getattr(self._estimator, match.method)(nudged))
        converted = match.actual[row : row + 1]
        if answers.size != _NUDGES * converted.size:
            return False
        # The scale of all rows' answers, not of this one: the same allowance as in the comparison that it failed.
        whole = match.expected.copy()
        for answer in answers.reshape(_NUDGES, *converted.shape):
            whole[row : row + 1] = answer
            actual = whole.copy()
            actual[row : row + 1] = converted
            if compare(whole, actual, match.tolerance).within:
                return True
        return False


def _judge_part(part: slice, answer: Answers, matches: list[_Match], row_count: int, what: str) -> None:
    """Compare a smaller batch with the answers of the whole one, which were judged.

    Raises:
        ConversionMismatch: the conversion answers differently when fewer rows are asked.
    """
    for match in matches:
        together = match.actual
        if not together.ndim or len(together) != row_count:
            continue  # no row axis to take a part of; the probe will find it unbatched
        difference = compare(together[part], answer[match.output], tolerance_for(together))
        if not difference.within:
            raise ConversionMismatch(
                f"{what} gives another {match.output} when asked for {part.stop - part.start} rows than for"
                f" {row_count}: {difference}; {_REMEDY}"
            )


def _missing_values(
    estimator: Any, run: Any, input_name: str, rows: NDArray[np.float32], matches: list[_Match]
) -> tuple[str, ...]:
    """Whether NaN is answered alike, where the estimator takes it. Told, not refused: few models are sent any."""
    random = np.random.default_rng(1)
    holed = np.where(random.random(rows.shape) < 0.2, np.float32(np.nan), rows)[: _GROUP_ROWS * _SINGLE_ROWS]
    expected = _source_answers(estimator, holed)
    if any(match.method not in expected for match in matches):
        return ()  # it takes none
    try:
        answers = run({input_name: holed})
    except ModelError:
        return ("missing values (NaN): the conversion refuses them; the estimator takes them",)
    for match in matches:
        actual = answers[match.output]
        aligned = _aligned(expected[match.method], actual)
        if aligned is None or not compare(aligned, actual, match.tolerance).within:
            return ("missing values (NaN): the conversion answers differently from the estimator; send none",)
    return ("missing values (NaN): answered as the estimator does",)
