"""Values and V2 tensors: there and back again, or a refusal that says whose fault it was."""

import dataclasses
from typing import Any, TypedDict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import setpoint as sp
from setpoint.authoring.columns import Column, input_column, output_columns
from setpoint.core import InvalidRequest, ModelError

INT64 = st.integers(-(2**63), 2**63 - 1)


def column(annotation: Any) -> Column:
    found = input_column("x", annotation)
    assert found is not None
    return found


def output(annotation: Any) -> Column:
    found = output_columns(annotation, batched=False)
    assert found is not None
    return found[0][0]


@given(values=st.lists(st.text()))
def test_texts_survive(values: list[str]) -> None:
    assert column(list[str]).to_argument(output(list[str]).to_array(values)) == values


@given(values=st.lists(st.binary()))
def test_bytes_survive(values: list[bytes]) -> None:
    assert column(list[bytes]).to_argument(output(list[bytes]).to_array(values)) == values


@given(values=st.lists(INT64))
def test_integers_survive(values: list[int]) -> None:
    assert column(list[int]).to_argument(output(list[int]).to_array(values)) == values


@given(value=st.floats(allow_nan=False))
def test_scalars_have_shape_one(value: float) -> None:
    array = output(float).to_array(value)
    assert array.shape == (1,)
    assert column(float).to_argument(array) == value


def test_arguments_own_their_memory() -> None:
    lent = np.arange(6, dtype=np.float32).reshape(2, 3)
    whole = column(sp.Tensor[np.float32, None, 3]).to_argument(lent)
    rows = column(list[sp.Tensor[np.float32, 3]]).to_argument(lent)
    lent[:] = -1
    assert whole.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [row.tolist() for row in rows] == [[0, 1, 2], [3, 4, 5]]


def test_results_own_their_memory() -> None:
    whole = np.zeros((4, 3), np.float32)
    array = output(sp.Tensor[np.float32, None, 3]).to_array(whole[1:3])
    whole[:] = 7
    assert array.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_text_that_is_not_utf8_is_the_clients_mistake() -> None:
    with pytest.raises(InvalidRequest, match="input 'x': expected UTF-8"):
        column(str).to_argument(np.array([b"\xff"], object))


def test_files_are_checked_on_the_way_in() -> None:
    with pytest.raises(InvalidRequest, match="JPEG"):
        column(list[sp.Image]).to_argument(np.array([b"abc"], object))


def test_an_empty_tensor_for_a_scalar_is_the_clients_mistake() -> None:
    with pytest.raises(InvalidRequest, match="no element"):
        column(int).to_argument(np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (str, 3, "expected str.*got int"),
        (bytes, "text", "got str"),
        (list[str], ["a", None], "got NoneType"),
        (int, 1.5, "got float64"),
        (int, "1", "expected int"),
        (sp.Tensor[np.int8, 1], np.array([300]), "beyond int8"),
        (sp.Tensor[np.float32, 3], np.zeros(4, np.float32), r"expected shape \[3\], got \[4\]"),
        (sp.Tensor[np.float32, 3], [1.0, [2.0], 3.0], "expected FP32"),
        (list[sp.Tensor[np.float32, 2]], [np.zeros(2), np.zeros(3)], "list of FP32"),
    ],
)
def test_a_result_that_breaks_its_promise_is_the_models_mistake(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        output(annotation).to_array(value)


class Record(msgspec.Struct):
    name: str
    vector: sp.Tensor[np.float32, 2]


@dataclasses.dataclass
class Data:
    name: str
    vector: sp.Tensor[np.float32, 2]


class Mapping(TypedDict):
    name: str
    vector: sp.Tensor[np.float32, 2]


class Partial(TypedDict, total=False):
    name: str


@pytest.mark.parametrize("kind", [Record, Data, Mapping])
def test_records_become_one_output_per_field(kind: Any) -> None:
    rows = [kind(name=name, vector=np.full(2, i)) for i, name in enumerate("abc")]
    found = output_columns(list[kind], batched=True)
    assert found is not None
    columns, apart = found
    arrays = [column.to_array(part) for column, part in zip(columns, apart(rows), strict=True)]
    assert [column.spec.name for column in columns] == ["name", "vector"]
    assert arrays[0].tolist() == [b"a", b"b", b"c"]
    assert arrays[1].tolist() == [[0, 0], [1, 1], [2, 2]]

    one = output_columns(kind, batched=False)
    assert one is not None
    assert [part.shape for part in (c.to_array(v) for c, v in zip(one[0], one[1](rows[1]), strict=True))] == [
        (1,),
        (2,),
    ]


def test_records_with_optional_keys_have_no_tensor_form() -> None:
    assert output_columns(Partial, batched=False) is None


def test_numbers_are_widened_but_never_cut() -> None:
    assert output(float).to_array(3).tolist() == [3.0]
    assert output(sp.Tensor[np.float32, 2]).to_array([1, 2]).dtype == np.float32
    assert output(bool).to_array(np.bool_(True)).tolist() == [True]
