"""Are two answers the same? One rule for probing (rows together against rows alone) and for conversions. Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import datatype_of


class Tolerance(msgspec.Struct, frozen=True):
    """How far floats may lie apart: ``|actual - expected| <= relative * |expected| + of_scale * max|expected|``.

    The second term is what makes it usable: the error of a sum follows its largest terms, not its result. Everything
    that is no float must be equal, and NaN equals NaN.
    """

    relative: float
    of_scale: float

    def __str__(self) -> str:
        return f"{self.relative:g} relative, {self.of_scale:g} of the largest value"


TOLERANCES = {
    "FP64": Tolerance(1e-6, 1e-7),
    "FP32": Tolerance(1e-3, 1e-4),
    "FP16": Tolerance(2e-2, 1e-2),
    "BF16": Tolerance(5e-2, 5e-2),
}
"""By datatype of the output. Wide enough for another order of additions, and for computing in the stated type what the
source computes in double precision; a wrong answer is off by far more."""

EXACT = Tolerance(0.0, 0.0)


class Difference(msgspec.Struct, frozen=True):
    """How two arrays differ.

    Attributes:
        rows: which rows (indices on the first axis) are outside the tolerance.
        row_count: of the arrays; 1 for scalars.
        worst_absolute: largest ``|actual - expected|``; 0 for what is no number; infinite where one is NaN or
            infinite and the other is not.
        worst_relative: largest of the same over ``|expected|``, where that is not 0.
        worst_of_scale: ``worst_absolute`` over the largest ``|expected|``.
        problem: why the arrays cannot be compared at all, such as different shapes; empty when they can.
    """

    rows: tuple[int, ...] = ()
    row_count: int = 1
    worst_absolute: float = 0.0
    worst_relative: float = 0.0
    worst_of_scale: float = 0.0
    problem: str = ""

    @property
    def within(self) -> bool:
        """Whether the arrays are the same within the tolerance."""
        return not self.rows and not self.problem

    @property
    def share(self) -> float:
        """Share of rows that are outside the tolerance."""
        return 1.0 if self.problem else len(self.rows) / max(self.row_count, 1)

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        text = f"{self.share:.1%} of {self.row_count} rows differ"
        if self.worst_absolute:
            text += f", worst difference {self.worst_absolute:.3g} absolute, {self.worst_relative:.3g} relative"
        return text


def tolerance_for(array: NDArray[Any]) -> Tolerance:
    """The tolerance of an array's datatype; exact for what is no float."""
    return TOLERANCES.get(datatype_of(array.dtype).name, EXACT)


def compare(expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance) -> Difference:
    """Compare two arrays row by row.

    Args:
        expected: the answers that count.
        actual: the answers in question, of the same shape.
        tolerance: for floats; other types must be equal.
    """
    if expected.shape != actual.shape:
        return Difference(problem=f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    numeric = all(datatype_of(array.dtype).name != "BYTES" for array in (expected, actual))
    if not numeric:
        return _difference(expected, np.asarray(expected != actual, dtype=bool), None)
    wide_expected, wide_actual = _widen(expected), _widen(actual)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(wide_actual - wide_expected)
    # inf - inf is NaN; equal infinities and two NaN are no difference, one NaN or one infinity is an infinite one.
    same = (wide_expected == wide_actual) | (np.isnan(wide_expected) & np.isnan(wide_actual))
    gap = np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))
    finite = np.abs(wide_expected[np.isfinite(wide_expected)])
    scale = float(finite.max()) if finite.size else 0.0
    size = np.nan_to_num(np.abs(wide_expected), nan=0.0, posinf=0.0)
    if not (datatype_of(expected.dtype).is_float or datatype_of(actual.dtype).is_float):
        return _difference(expected, ~same, gap)
    return _difference(expected, gap > tolerance.relative * size + tolerance.of_scale * scale, gap, scale)


def closeness(worst_of_scale: float) -> str:
    """A difference in words that do not change with every machine: the next power of ten."""
    if worst_of_scale == 0:
        return "exactly"
    if not math.isfinite(worst_of_scale):
        return "not at all"
    return f"within 1e{math.ceil(math.log10(worst_of_scale)):d} of the largest"


def _widen(array: NDArray[Any]) -> NDArray[Any]:
    # Python's own integers where int64 would not become a float without loss.
    return array.astype(np.longdouble) if array.dtype.kind in "iu" else array.astype(np.float64)


def _difference(expected: NDArray[Any], differs: Any, gap: NDArray[Any] | None, scale: float = 0.0) -> Difference:
    outside = np.asarray(differs, dtype=np.bool_)  # numpy turns arrays without axes into scalars
    by_row = outside.any(axis=tuple(range(1, outside.ndim))) if outside.ndim else outside.reshape(1)
    worst_absolute = worst_relative = 0.0
    if gap is not None and gap.size:
        worst_absolute = float(gap.max())
        size = np.abs(_widen(expected))
        known = np.isfinite(size) & (size > 0)
        worst_relative = float((gap[known] / size[known]).max()) if known.any() else 0.0
    rows = tuple(np.flatnonzero(by_row).tolist())
    return Difference(rows, by_row.size, worst_absolute, worst_relative, worst_absolute / scale if scale else 0.0)
