"""A batch's outputs cut into each request's part: nobody reads another's row, in either JSON form."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import JSON_DATATYPES, arrays, plain, read, same

from setpoint.core import DATATYPES, FREE, Signature, TensorSpec
from setpoint.wire import BatchOutputs, InferRequest, NativeTensorCodec, V2Codec


@st.composite
def batches(draw: st.DrawFn, datatypes: list[str]) -> tuple[Signature, list[NDArray[Any]], list[tuple[int, int]]]:
    """Outputs of a batch, and from which row to which each request's part goes."""
    ends = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))).tolist()
    specs, outputs = [], []
    for position in range(draw(st.integers(1, 3))):
        inner = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
        datatype = draw(st.sampled_from(datatypes))
        specs.append(TensorSpec(f"y{position}", datatype, (FREE, *inner)))
        outputs.append(draw(arrays(datatype, (ends[-1], *inner))))
    return Signature((), tuple(specs), True), outputs, list(zip([0, *ends[:-1]], ends, strict=True))


@given(batches(JSON_DATATYPES))
def test_each_request_gets_its_own_rows_as_v2(
    batch: tuple[Signature, list[NDArray[Any]], list[tuple[int, int]]],
) -> None:
    signature, arrays_, parts = batch
    codec, outputs = V2Codec(signature, "m", "1"), BatchOutputs(arrays_, together=True)
    for start, end in parts:
        written = json.loads(codec.encode(InferRequest([], end - start, ()), outputs, start, end))["outputs"]
        assert [output["shape"] for output in written] == [[end - start, *array.shape[1:]] for array in arrays_]
        for output, array in zip(written, arrays_, strict=True):
            assert same(read(output["data"], array[start:end]), array[start:end])


@given(batches(list(DATATYPES)))
def test_each_request_gets_its_own_rows_natively(
    batch: tuple[Signature, list[NDArray[Any]], list[tuple[int, int]]],
) -> None:
    signature, arrays_, parts = batch
    codec, outputs = NativeTensorCodec(signature), BatchOutputs(arrays_, together=True)
    for start, end in parts:
        written = json.loads(codec.encode(InferRequest([], end - start, ()), outputs, start, end))
        for value, array in zip(written.values(), arrays_, strict=True):
            assert same(read(value, array[start:end]), array[start:end])


@pytest.mark.parametrize("elements", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "BOOL", "UINT8"])
def test_rows_of_any_width(elements: int, datatype: str) -> None:
    spec = TensorSpec("y", datatype, (FREE, elements))
    array = (np.arange(5 * elements).reshape(5, elements) % 2).astype(spec.type.dtype)
    if spec.type.is_float:
        array[2] = np.nan
    codec, outputs = V2Codec(Signature((), (spec,), True), "m", "1"), BatchOutputs([array], together=True)
    for start, end in ((0, 2), (2, 3), (3, 5)):
        written = json.loads(codec.encode(InferRequest([], end - start, ()), outputs, start, end))
        assert written["outputs"][0]["data"] == plain(array[start:end].reshape(-1))


def test_a_lone_request_has_everything_whatever_the_first_axis_is() -> None:
    codec = V2Codec(Signature((), (TensorSpec("y", "FP32", (7,)),), False), "m", "1")
    written = json.loads(
        codec.encode(InferRequest([], 1, ()), BatchOutputs([np.ones(7, np.float32)], together=False), 0, 1)
    )
    assert written["outputs"][0]["shape"] == [7]
