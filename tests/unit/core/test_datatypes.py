"""One table relates V2 datatypes to numpy dtypes."""

import ml_dtypes
import numpy as np
import pytest

from setpoint.core import DATATYPES, InvalidConfiguration, datatype_of

V2_SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}


def test_the_table_is_that_of_the_protocol() -> None:
    assert {name: row.itemsize_bytes for name, row in DATATYPES.items()} == V2_SIZES


@pytest.mark.parametrize("name", V2_SIZES)
def test_a_dtype_and_its_datatype_find_each_other(name: str) -> None:
    assert datatype_of(DATATYPES[name].dtype) is DATATYPES[name]


@pytest.mark.parametrize("dtype", [np.dtype("S5"), np.dtype("U5"), np.dtype(object), np.dtypes.StringDType()])
def test_every_kind_of_text_is_bytes(dtype: np.dtype[object]) -> None:
    assert datatype_of(dtype).name == "BYTES"


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2"])
def test_byte_order_does_not_change_the_datatype(dtype: str) -> None:
    assert datatype_of(np.dtype(dtype)) is datatype_of(np.dtype(dtype).newbyteorder("<"))


@pytest.mark.parametrize("dtype", ["c16", "M8[s]", "m8[s]", "f16" if hasattr(np, "float128") else "c8"])
def test_dtypes_without_a_datatype_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidConfiguration, match="no Open Inference Protocol datatype"):
        datatype_of(np.dtype(dtype))


def test_what_json_has_no_form_for() -> None:
    assert {name for name, row in DATATYPES.items() if not row.json_number} == {"FP16", "BF16"}


def test_kinds_of_numbers() -> None:
    assert {name for name, row in DATATYPES.items() if row.is_float} == {"FP16", "BF16", "FP32", "FP64"}
    assert {name for name, row in DATATYPES.items() if row.is_integer} == {
        f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
    }
    assert DATATYPES["BF16"].dtype == ml_dtypes.bfloat16
