"""When two answers are the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from setpoint.formats.equivalence import EXACT, Tolerance, closeness, compare, tolerance_for

TOLERANCE = Tolerance(1e-3, 1e-4)
any_array = st.sampled_from([np.float32, np.float64, np.int64, np.uint64, np.bool_]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@given(any_array)
def test_every_array_equals_itself(array: np.ndarray) -> None:  # type: ignore[type-arg]
    for tolerance in (EXACT, TOLERANCE):
        difference = compare(array, array.copy(), tolerance)
        assert difference.within
        assert difference.worst_absolute == difference.worst_relative == 0


@pytest.mark.parametrize(
    ("expected", "actual", "rows"),
    [
        ([1.0, 2.0], [1.0005, 2.0], ()),
        ([1.0, 2.0], [1.01, 2.0], (0,)),
        ([1e-9, 2.0], [1e-5, 2.0], ()),  # nothing beside the largest value
        ([np.nan, 1.0], [np.nan, 1.0], ()),
        ([np.nan, 1.0], [1.0, np.nan], (0, 1)),
        ([np.inf, 1.0], [np.inf, 1.0], ()),
        ([np.inf, -np.inf], [-np.inf, -np.inf], (0,)),
        ([1.0, np.inf], [1.0, 1e30], (1,)),
    ],
)
def test_floats_within_tolerance(expected: list[float], actual: list[float], rows: tuple[int, ...]) -> None:
    difference = compare(np.array(expected), np.array(actual), TOLERANCE)
    assert difference.rows == rows
    assert difference.within is (not rows)


def test_what_is_no_float_must_be_equal() -> None:
    assert compare(np.array([1000]), np.array([1001]), TOLERANCE).rows == (0,)
    assert compare(np.array([2**63 - 1]), np.array([2**63 - 2]), TOLERANCE).rows == (0,)
    assert compare(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object), TOLERANCE).rows == (1,)
    assert compare(np.array([True]), np.array([False]), TOLERANCE).rows == (0,)


def test_a_difference_says_how_much() -> None:
    difference = compare(np.array([[1.0, 10.0], [2.0, 20.0]]), np.array([[1.0, 10.0], [2.0, 25.0]]), TOLERANCE)
    assert str(difference) == "50.0% of 2 rows differ, worst difference 5 absolute, 0.25 relative"
    assert difference.worst_of_scale == 0.25


def test_other_shapes_cannot_be_compared() -> None:
    difference = compare(np.zeros((2, 3)), np.zeros((3, 2)), TOLERANCE)
    assert not difference.within
    assert str(difference) == "shape [3, 2] instead of [2, 3]"


@pytest.mark.parametrize(
    ("worst", "words"),
    [
        (0.0, "exactly"),
        (3e-7, "within 1e-6 of the largest"),
        (1e-6, "within 1e-6 of the largest"),
        (1.5, "within 1e1 of the largest"),
        (float("inf"), "not at all"),
    ],
)
def test_closeness_is_a_power_of_ten(worst: float, words: str) -> None:
    assert closeness(worst) == words


def test_the_tolerance_follows_the_datatype() -> None:
    assert tolerance_for(np.zeros(1, np.float64)).relative < tolerance_for(np.zeros(1, np.float32)).relative
    assert tolerance_for(np.zeros(1, np.float32)).relative < tolerance_for(np.zeros(1, np.float16)).relative
    assert tolerance_for(np.zeros(1, np.int64)) == EXACT
