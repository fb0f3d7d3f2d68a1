"""Tensors through an arena: what comes out is what went in, for every datatype, shape and split into requests."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from setpoint.core import DATATYPES, FREE, MIB, RequestTooLarge, TensorSpec
from setpoint.worker.arena import ALIGNMENT_BYTES, Arena
from setpoint.worker.tensors import get, put, put_batch

Arrays = list[NDArray[Any]]
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Any bit pattern of the datatype, NaNs and denormals included; now and then not contiguous."""
    row = DATATYPES[datatype]
    size = int(np.prod(shape))
    if datatype == "BYTES":
        elements = np.empty(size, dtype=object)
        elements[:] = draw(st.lists(st.binary(max_size=9), min_size=size, max_size=size))
        return elements.reshape(shape)
    raw = np.frombuffer(draw(st.binary(min_size=size * row.itemsize_bytes, max_size=size * row.itemsize_bytes)), "u1")
    if datatype == "BOOL":
        raw = raw & 1
    array = raw.view(row.dtype).reshape(shape)
    if draw(st.booleans()):
        return np.asfortranarray(array)
    return np.stack([array, array], axis=-1)[..., 0] if draw(st.booleans()) else array


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[TensorSpec], list[Arrays]]:
    """Specs of some inputs, and for each request its arrays, which differ in the first axis only."""
    inputs = draw(st.lists(st.tuples(st.sampled_from(sorted(DATATYPES)), shapes), min_size=1, max_size=4))
    specs = [TensorSpec(f"x{i}", datatype, (FREE, *[FREE] * len(inner))) for i, (datatype, inner) in enumerate(inputs)]
    rows = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    requests = [[draw(arrays(datatype, (count, *inner))) for datatype, inner in inputs] for count in rows]
    return specs, requests


def bits(array: NDArray[Any]) -> object:
    """Comparable even where NaN is not equal to itself."""
    return (array.shape, array.tolist() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes())


@given(batches())
def test_a_batch_is_its_requests_end_to_end(case: tuple[list[TensorSpec], list[Arrays]]):
    specs, requests = case
    writer = Arena.create(8 * MIB)
    reader = Arena(os.dup(writer.descriptor), 8 * MIB)
    extents = put_batch(writer, specs, requests)
    reader.follow(writer.size_bytes)
    got = get(reader, extents)
    for index, (spec, array) in enumerate(zip(specs, got, strict=True)):
        assert array.dtype == spec.type.dtype
        assert bits(array) == bits(np.concatenate([request[index] for request in requests]))
        assert extents[index].offset % ALIGNMENT_BYTES == 0
    writer.close()
    reader.close()


@given(st.data())
def test_a_single_request_needs_no_batch_axis(data: st.DataObject):
    inputs = data.draw(st.lists(st.tuples(st.sampled_from(sorted(DATATYPES)), shapes), max_size=4))
    specs = [TensorSpec(f"x{i}", datatype, shape) for i, (datatype, shape) in enumerate(inputs)]
    given_arrays = [data.draw(arrays(datatype, shape)) for datatype, shape in inputs]
    arena = Arena.create(8 * MIB)
    for got, array in zip(get(arena, put(arena, specs, given_arrays)), given_arrays, strict=True):
        assert bits(got) == bits(array)
    arena.close()


def test_a_tensor_larger_than_the_first_mapping_crosses():
    array = np.random.default_rng(0).integers(0, 255, (3, MIB), dtype=np.uint8)
    writer = Arena.create(8 * MIB)
    reader = Arena(os.dup(writer.descriptor), 8 * MIB)
    specs = [TensorSpec("x", "UINT8", (FREE, MIB))]
    for requests in ([[array]], [[array[:1]], [array[1:]]]):
        extents = put_batch(writer, specs, requests)
        reader.follow(writer.size_bytes)
        np.testing.assert_array_equal(get(reader, extents)[0], array)
    writer.close()
    reader.close()


@pytest.mark.parametrize(
    ("datatype", "array"),
    [("FP32", np.zeros((1, 180_000), np.float32)), ("BYTES", np.array([b"x" * 700_000], dtype=object))],
)
def test_a_batch_beyond_the_limit_is_refused_before_anything_is_written(datatype: str, array: NDArray[Any]):
    arena = Arena.create(MIB)
    arena.write(0, b"before")
    specs = [TensorSpec("x", datatype, (FREE,) * array.ndim)]
    with pytest.raises(RequestTooLarge):
        put_batch(arena, specs, [[array], [array]])
    assert arena.read(0, 6) == b"before"
    assert bits(get(arena, put_batch(arena, specs, [[array]]))[0]) == bits(array)
    arena.close()


def test_numbers_are_views_and_bytes_are_copies():
    arena = Arena.create(MIB)
    specs = [TensorSpec("n", "INT32", (2,)), TensorSpec("b", "BYTES", (1,))]
    numbers, words = get(arena, put(arena, specs, [np.array([1, 2], np.int32), np.array([b"word"], object)]))
    put(arena, specs, [np.array([8, 9], np.int32), np.array([b"next"], object)])
    assert numbers.tolist() == [8, 9]
    assert words.tolist() == [b"word"]
    arena.close()


def test_text_elements_cross_as_utf8():
    arena = Arena.create(MIB)
    (array,) = get(arena, put(arena, [TensorSpec("b", "BYTES", (2,))], [np.array(["é", "日本"], object)]))
    assert array.tolist() == ["é".encode(), "日本".encode()]
    arena.close()
