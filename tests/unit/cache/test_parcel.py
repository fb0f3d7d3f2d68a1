"""A value survives the way through a store; bytes that are not what was asked for never become a value."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from setpoint.core import DATATYPES, FREE, Signature, TensorSpec
from setpoint.node.cache.parcel import pack, unpack
from setpoint.node.cache.values import JsonValue, TensorsValue

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
datatypes = st.sampled_from(sorted(DATATYPES))


def array_of(datatype: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    if datatype == "BYTES":
        array = np.empty(shape, object)
        array.reshape(-1)[:] = [random.bytes(int(random.integers(0, 5))) for _ in range(array.size)]
        return array
    dtype = DATATYPES[datatype].dtype
    if datatype == "BOOL":
        return random.integers(0, 2, shape).astype(np.bool_)
    return np.frombuffer(random.bytes(max(1, int(np.prod(shape))) * dtype.itemsize), dtype)[
        : int(np.prod(shape))
    ].reshape(shape)


@given(
    st.lists(st.tuples(datatypes, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)), max_size=3),
    st.integers(0, 99),
)
def test_tensors_survive_bit_by_bit(outputs: list[tuple[str, tuple[int, ...]]], seed: int) -> None:
    specs = tuple(TensorSpec(f"y{n}", datatype, (FREE,) * len(shape)) for n, (datatype, shape) in enumerate(outputs))
    signature = Signature((), specs, batched=False)
    arrays = [array_of(datatype, shape, seed) for datatype, shape in outputs]
    found = unpack(pack(KEY, TensorsValue([a.copy() for a in arrays], "int8"), signature), KEY, signature, 1)
    assert isinstance(found, TensorsValue)
    assert found.variant == "int8"
    for array, again in zip(arrays, found.arrays, strict=True):
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        if array.dtype.hasobject:
            assert again.tolist() == array.tolist()
        else:
            assert again.tobytes() == array.tobytes()
        assert not again.flags.writeable


@given(st.binary(max_size=20))
def test_json_survives(body: bytes) -> None:
    found = unpack(pack(KEY, JsonValue(body, "fp32"), None), KEY, None, 1)
    assert isinstance(found, JsonValue)
    assert (found.body, found.variant) == (body, "fp32")


SIGNATURE = Signature((), (TensorSpec("y", "FP32", (FREE, 2)),), batched=True)
PARCEL = pack(KEY, TensorsValue([np.ones((3, 2), np.float32)], "fp32"), SIGNATURE)


@given(st.integers(0, len(PARCEL) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    changed = bytearray(PARCEL)
    changed[place] ^= change
    assert unpack(bytes(changed), KEY, SIGNATURE, 3) is None


@given(st.integers(0, len(PARCEL) - 1))
def test_a_cut_parcel_is_noticed(length: int) -> None:
    assert unpack(PARCEL[:length], KEY, SIGNATURE, 3) is None


@given(st.binary(max_size=100))
def test_any_bytes_are_judged_without_an_error(parcel: bytes) -> None:
    assert unpack(parcel, KEY, SIGNATURE, 3) is None


def test_the_answer_to_another_question_is_not_taken() -> None:
    assert unpack(PARCEL, OTHER_KEY, SIGNATURE, 3) is None
    assert unpack(PARCEL, KEY, SIGNATURE, 3) is not None


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones((2, 2), np.float32), "another number of rows"),
        (np.ones((3, 3), np.float32), "another inner shape"),
        (np.ones((3, 2, 1), np.float32), "another number of axes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_well_made_parcels_must_fit_the_model(array: np.ndarray[Any, Any], why: str) -> None:
    assert unpack(pack(KEY, TensorsValue([array], "fp32"), SIGNATURE), KEY, SIGNATURE, 3) is None, why


def test_a_datatype_or_a_number_of_outputs_that_the_model_does_not_have_is_not_taken() -> None:
    half = Signature((), (TensorSpec("y", "BF16", (FREE, 2)),), batched=True)
    two = Signature((), SIGNATURE.outputs * 2, batched=True)
    ones = np.ones((3, 2), np.float32)
    assert unpack(pack(KEY, TensorsValue([ones.astype(ml_dtypes.bfloat16)], ""), half), KEY, SIGNATURE, 3) is None
    assert unpack(pack(KEY, TensorsValue([ones, ones.copy()], ""), two), KEY, SIGNATURE, 3) is None
    assert unpack(PARCEL, KEY, None, 3) is None
