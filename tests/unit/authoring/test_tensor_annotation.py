"""``Tensor[...]``: what it promises, and how JSON becomes an array of that promise or one clear refusal."""

import json
import math
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import setpoint as sp
from setpoint.authoring import ENCODER, decoder
from setpoint.authoring.tensor import ArrayForm, array_form, decode_array
from setpoint.core import DATATYPES, InvalidConfiguration

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=2), children, max_size=2),
    max_leaves=12,
)
FORMS = [
    ArrayForm(None, None),
    ArrayForm(np.dtype(np.float32), None),
    ArrayForm(np.dtype(np.float32), (3,)),
    ArrayForm(np.dtype(np.float64), (-1, 2)),
    ArrayForm(np.dtype(np.int8), (-1,)),
    ArrayForm(np.dtype(np.uint64), (2, -1)),
    ArrayForm(np.dtype(np.bool_), (-1, -1)),
    ArrayForm(np.dtype(ml_dtypes.bfloat16), (2,)),
    ArrayForm(np.dtype(np.float16), ()),
]


@pytest.mark.parametrize(
    ("annotation", "form"),
    [
        (sp.Tensor["float32", 384], ArrayForm(np.dtype(np.float32), (384,))),
        (sp.Tensor["FP32", 384], ArrayForm(np.dtype(np.float32), (384,))),
        (sp.Tensor[np.float32, None, 3], ArrayForm(np.dtype(np.float32), (-1, 3))),
        (sp.Tensor["int64", -1, -1], ArrayForm(np.dtype(np.int64), (-1, -1))),
        (sp.Tensor["bfloat16", 2], ArrayForm(DATATYPES["BF16"].dtype, (2,))),
        (sp.Tensor["bool"], ArrayForm(np.dtype(np.bool_), None)),
        (sp.Tensor["bool", ...], ArrayForm(np.dtype(np.bool_), None)),
        (np.ndarray, ArrayForm(None, None)),
        (npt.NDArray[np.int32], ArrayForm(np.dtype(np.int32), None)),
        (npt.NDArray[Any], ArrayForm(None, None)),
        (list[int], None),
        (str, None),
    ],
)
def test_annotations_say_dtype_and_shape(annotation: Any, form: ArrayForm | None) -> None:
    assert array_form(annotation) == form


@pytest.mark.parametrize("items", ["float33", ("object", 3), ("float32", -2), ("float32", "n"), ("float32", True), 3])
def test_impossible_tensors_are_refused_where_they_are_written(items: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="Tensor"):
        sp.Tensor[items]


def test_equal_annotations_are_one_type_and_arrays_are_their_instances() -> None:
    assert sp.Tensor["float32", 3] is sp.Tensor[np.float32, 3]
    assert isinstance(np.zeros(3), sp.Tensor["float32", 3])
    assert not isinstance([1.0], sp.Tensor["float32", 3])
    with pytest.raises(TypeError, match="annotation"):
        sp.Tensor["float32", 3]()


@given(value=JSON_VALUES, form=st.sampled_from(FORMS))
def test_any_json_becomes_the_promised_array_or_a_value_error(value: Any, form: ArrayForm) -> None:
    try:
        array = decode_array(form, value)
    except ValueError:
        return
    assert form.dtype in (None, array.dtype)
    assert not array.dtype.hasobject
    if form.shape is not None:
        assert all(want in (-1, length) for want, length in zip(form.shape, array.shape, strict=True))


@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int8, np.uint64, np.bool_, np.float16]),
        hnp.array_shapes(max_dims=3, max_side=4),
    )
)
def test_arrays_survive_json_except_that_infinities_become_nan(array: npt.NDArray[Any]) -> None:
    form = ArrayForm(array.dtype, array.shape)
    back = decode_array(form, json.loads(ENCODER.encode(array)))
    expected = np.where(np.isfinite(array), array, np.nan) if array.dtype.kind == "f" else array
    np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], r"expected shape \[3\], got \[2\]"),
        ([1, 2, "3"], r"expected float32 elements, got str at \[2\]"),
        ([1, 2, True], "got bool"),
        ([[1], [2], [3]], "got array"),
        ([1, 2, 1e300], "beyond float32"),
        (1.5, "got float"),
    ],
)
def test_the_refusal_says_what_was_expected(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_array(ArrayForm(np.dtype(np.float32), (3,)), value)


def test_numbers_beyond_an_integer_dtype_are_refused() -> None:
    for number in (128, -129, 2**70):
        with pytest.raises(ValueError, match="int8"):
            decode_array(ArrayForm(np.dtype(np.int8), (1,)), [number])


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        decode_array(ArrayForm(np.dtype(np.float32), (-1, -1)), [[1.0], [1.0, 2.0]])


def test_null_is_nan_in_floats_and_an_empty_list_has_the_declared_inner_axes() -> None:
    assert math.isnan(decode_array(ArrayForm(np.dtype(np.float32), (1,)), [None])[0])
    assert decode_array(ArrayForm(np.dtype(np.float32), (-1, 4)), []).shape == (0, 4)
    with pytest.raises(ValueError, match="int32"):
        decode_array(ArrayForm(np.dtype(np.int32), (1,)), [None])


def test_without_a_dtype_the_content_decides() -> None:
    form = ArrayForm(None, None)
    assert decode_array(form, [1, 2]).dtype == np.int64
    assert decode_array(form, [1, 2.5]).dtype == np.float64
    assert decode_array(form, [[True], [False]]).dtype == np.bool_
    assert np.isnan(decode_array(form, [1, None])[1])


def test_very_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(ValueError, match="axes"):
        decode_array(ArrayForm(None, None), value)


@pytest.mark.parametrize(
    "array",
    [np.ones((2, 3), ">f4"), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::2], np.float32(0.1)],
)
def test_byte_order_and_strides_do_not_matter_when_writing(array: Any) -> None:
    np.testing.assert_array_equal(np.array(json.loads(ENCODER.encode(array)), array.dtype), array)


def test_float32_is_written_with_its_own_digits() -> None:
    assert ENCODER.encode(np.array([0.1], np.float32)) == b"[0.1]"
    assert ENCODER.encode({"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True)}) == b'{"a":0.1,"b":3,"c":true}'


def test_bfloat16_strings_and_refused_dtypes_when_writing() -> None:
    assert ENCODER.encode(np.array([1.5, np.nan], ml_dtypes.bfloat16)) == b"[1.5,null]"
    assert ENCODER.encode(np.array(["a", "b"])) == b'["a","b"]'
    with pytest.raises(TypeError, match="complex"):
        ENCODER.encode(np.array([1j]))


def test_arrays_inside_structs_are_read_and_written() -> None:
    class Point(msgspec.Struct):
        at: sp.Tensor["int32", 2]  # type: ignore[name-defined,valid-type]  # noqa: F821

    point = decoder(Point).decode(b'{"at":[1,2]}')
    assert point.at.dtype == np.int32
    assert ENCODER.encode(point) == b'{"at":[1,2]}'
