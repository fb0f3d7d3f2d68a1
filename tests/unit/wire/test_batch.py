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


@given(batches(list(DATATYPES)), st.booleans())
def test_answers_written_for_a_whole_batch_at_once_are_those_written_one_by_one(
    batch: tuple[Signature, list[NDArray[Any]], list[tuple[int, int]]], native: bool
) -> None:
    signature, arrays_, _ = batch
    specs = tuple(TensorSpec(f"{spec.name} 5%b%", spec.datatype, spec.shape) for spec in signature.outputs)
    signature = Signature((), specs, True)
    codec = NativeTensorCodec(signature) if native else V2Codec(signature, "m%s", "1")
    one_by_one, at_once = (BatchOutputs(arrays_, together=True, single=single) for single in (False, True))
    if not native and any(not spec.type.json_number for spec in specs):
        return
    rows = range(len(arrays_[0]))
    written = [codec.encode(InferRequest([], 1, ()), one_by_one, row, row + 1) for row in rows]
    assert [codec.encode(InferRequest([], 1, ()), at_once, row, row + 1) for row in rows] == written


def test_who_wants_something_else_gets_it_beside_those_who_want_the_usual() -> None:
    specs = (TensorSpec("a", "FP32", (FREE,)), TensorSpec("b", "INT64", (FREE, 2)))
    codec = V2Codec(Signature((), specs, True), "m", "1")
    arrays_: list[NDArray[Any]] = [np.array([1, 2, 3], np.float32), np.arange(6).reshape(3, 2)]
    outputs = BatchOutputs(arrays_, together=True, single=True)
    usual = json.loads(codec.encode(InferRequest([], 1, ()), outputs, 0, 1))
    named = json.loads(codec.encode(InferRequest([], 1, (), id="7"), outputs, 1, 2))
    chosen = json.loads(codec.encode(InferRequest([], 1, (), wanted=(1,)), outputs, 2, 3))
    assert [output["data"] for output in usual["outputs"]] == [[1.0], [0, 1]]
    assert (named["id"], [output["data"] for output in named["outputs"]]) == ("7", [[2.0], [2, 3]])
    assert [output["data"] for output in chosen["outputs"]] == [[4, 5]]


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
