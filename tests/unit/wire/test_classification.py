"""The highest values as text: ``VALUE:INDEX``, highest first."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import arrays, dumps

from setpoint.core import DATATYPES, FREE, InvalidRequest, Signature, TensorSpec
from setpoint.wire import BatchOutputs, V2Codec
from setpoint.wire.classification import classify

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (FREE, 1)),),
    (TensorSpec("y", "FP32", (FREE, 3)), TensorSpec("names", "BYTES", (FREE,))),
    True,
)
CODEC = V2Codec(SIGNATURE, "m", "1")
SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]], np.float32)


def asked(*outputs: dict[str, Any], **parameters: Any) -> bytes:
    inputs = [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}]
    return dumps({"inputs": inputs, "outputs": outputs, "parameters": parameters})


def test_of_equal_values_the_earlier_comes_first() -> None:
    assert classify(SCORES, 2, batched=True).tolist() == [
        [b"0.700000:1", b"0.200000:2"],
        [b"0.500000:0", b"0.500000:1"],
    ]


def test_without_a_batch_axis_all_elements_are_classes() -> None:
    assert classify(SCORES, 1, batched=False).tolist() == [b"0.700000:1"]


def test_a_class_that_has_a_name_is_called_by_it() -> None:
    assert classify(SCORES, 3, batched=True, labels=("cat", "Kätzchen: groß"))[0].tolist() == [
        "0.700000:1:Kätzchen: groß".encode(),
        b"0.200000:2",
        b"0.100000:0:cat",
    ]
    assert classify(SCORES[:1], 1, batched=True, labels=("cat", "")).tolist() == [[b"0.700000:1"]]


def test_there_are_no_more_classes_than_values() -> None:
    assert classify(SCORES, 99, batched=True).shape == (2, 3)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
def test_every_datatype_has_an_order(datatype: str) -> None:
    scores = np.array([[0, 1, 0]]).astype(DATATYPES[datatype].dtype)
    first, second, third = classify(scores, 3, batched=True)[0]
    assert [text.split(b":")[1] for text in (first, second, third)] == [b"1", b"0", b"2"]
    assert float(first.split(b":")[0]) == 1


@given(st.sampled_from([name for name in DATATYPES if name != "BYTES"]), st.data())
def test_values_fall_and_not_a_number_comes_last(datatype: str, data: st.DataObject) -> None:
    scores = data.draw(arrays(datatype, (2, 5)))
    for row, texts in zip(scores.astype(np.float64), classify(scores, 5, batched=True), strict=True):
        positions = [int(text.rpartition(b":")[2]) for text in texts]
        assert sorted(positions) == list(range(5))
        ranked = [value for value in row[positions] if not np.isnan(value)]
        assert ranked == sorted(ranked, reverse=True)
        assert not np.isnan(row[positions][: len(ranked)]).any()


def test_an_output_can_be_asked_for_as_classes_in_json() -> None:
    request = CODEC.decode(asked({"name": "y", "parameters": {"classification": 1}}, {"name": "names"}))
    names = np.array([b"a", b"b"], object)
    response = json.loads(CODEC.encode(request, BatchOutputs([SCORES, names], together=False), 0, 2))
    assert response["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [2, 1], "data": ["0.700000:1", "0.500000:0"]},
        {"name": "names", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ]


def test_an_output_can_be_asked_for_as_classes_in_binary() -> None:
    request = CODEC.decode(asked({"name": "y", "parameters": {"classification": 1, "binary_data": True}}))
    outputs = BatchOutputs([SCORES, np.array([b"a", b"b"], object)], together=False)
    pieces, json_bytes = CODEC.encode_binary(request, outputs, 0, 2)
    response = json.loads(pieces[0])
    assert len(pieces[0]) == json_bytes
    assert response["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 28}}
    ]
    assert bytes(pieces[1]) == b"\x0a\0\0\x000.700000:1\x0a\0\0\x000.500000:0"


@pytest.mark.parametrize(("name", "classes"), [("names", 1), ("y", -1)])
def test_text_has_no_highest_value_and_fewer_than_one_cannot_be_given(name: str, classes: int) -> None:
    with pytest.raises(InvalidRequest, match="cannot give"):
        CODEC.decode(asked({"name": name, "parameters": {"classification": classes}}))
