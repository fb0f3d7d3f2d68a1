"""BYTES tensors as bytes: the form between node and worker, and of V2's binary extension."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from setpoint.core import InvalidRequest, decode_bytes_tensor, encode_bytes_tensor


@st.composite
def tensors(draw: st.DrawFn) -> NDArray[Any]:
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    count = int(np.prod(shape))
    array = np.empty(count, object)
    array[:] = draw(st.lists(st.binary(max_size=9), min_size=count, max_size=count))
    return array.reshape(shape)


@given(tensors(), st.booleans())
def test_what_was_encoded_is_decoded(array: NDArray[Any], as_view: bool) -> None:
    encoded = encode_bytes_tensor(array)
    decoded = decode_bytes_tensor(memoryview(encoded) if as_view else encoded, array.shape)
    assert decoded.shape == array.shape
    assert decoded.tolist() == array.tolist()


def test_the_form_is_that_of_the_specification() -> None:
    assert encode_bytes_tensor(np.array([b"ab", "é"], object)) == b"\x02\0\0\0ab\x02\0\0\0\xc3\xa9"


def test_elements_that_end_in_zeros_keep_them() -> None:
    array = np.array([b"a\0\0", b""], object)
    assert decode_bytes_tensor(encode_bytes_tensor(array), (2,)).tolist() == [b"a\0\0", b""]


@given(st.binary(max_size=60), st.lists(st.integers(0, 4), max_size=3).map(tuple))
def test_any_bytes_are_a_tensor_of_that_shape_or_refused(encoded: bytes, shape: tuple[int, ...]) -> None:
    try:
        array = decode_bytes_tensor(encoded, shape)
    except InvalidRequest:
        return
    assert array.shape == shape
    assert encode_bytes_tensor(array) == encoded


@pytest.mark.parametrize(
    ("encoded", "shape", "says"),
    [
        (b"\x01", (1,), "inside an element's length"),
        (b"\x05\0\0\0abc", (1,), "5 bytes runs past the end"),
        (struct.pack("<I", 2**32 - 1), (1,), "runs past the end"),
        (b"\0\0\0\0" * 2, (3,), "needs 3 elements, got 2"),
        (bytes(64 << 20), (4,), "needs 4 elements, got more"),  # at once: what else lies there is not walked
        (b"", (10**9, 10**9), "needs 1000000000000000000 elements, got 0"),
    ],
)
def test_a_refusal_names_what_is_wrong(encoded: bytes, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        decode_bytes_tensor(encoded, shape)
