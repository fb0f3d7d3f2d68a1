"""The native route: one JSON object of arguments, whatever their datatypes."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import dumps, models, plain, read, same, write

from setpoint.core import DATATYPES, FREE, Endpoint, InvalidRequest, Parameter, Signature, TensorSpec
from setpoint.wire import NativeTensorCodec, check_object, count_rows

EMBED = Endpoint("embed", (Parameter("texts", {}), Parameter("scale", {}, required=False)), {}, batch_rows=8)


def same_but_for_what_nesting_cannot_say(read: NDArray[Any], array: NDArray[Any]) -> bool:
    """``[[], []]`` of shape [2, 0, 3] has lost its 3."""
    return same(read, array) or (array.size == 0 and read.size == 0)


@given(models(list(DATATYPES)))
def test_any_tensor_is_read_and_written(model: tuple[Signature, list[NDArray[Any]]]) -> None:
    signature, arrays = model
    codec = NativeTensorCodec(signature)
    body = dumps({spec.name: plain(array) for spec, array in zip(signature.inputs, arrays, strict=True)})
    try:
        request = codec.decode(body)
    except InvalidRequest:
        assert any(array.size == 0 and array.ndim > 1 for array in arrays), "only those cannot be said by nesting"
        return
    assert all(map(same_but_for_what_nesting_cannot_say, request.arrays, arrays))
    written = json.loads(write(codec, request, arrays))
    assert list(written) == [spec.name for spec in signature.outputs]
    assert all(same(read(value, array), array) for value, array in zip(written.values(), arrays, strict=True))


def test_sixteen_bit_floats_are_written_with_digits_that_give_them_back() -> None:
    for datatype in ("FP16", "BF16"):
        bits = np.arange(2**16, dtype=np.uint16)
        array = bits.view(DATATYPES[datatype].dtype)
        finite = array[np.isfinite(array.astype(np.float32))]
        spec = TensorSpec("x", datatype, (FREE,))
        codec = NativeTensorCodec(Signature((spec,), (spec,), True))
        request = codec.decode(dumps({"x": finite.astype(float).tolist()}))
        assert same(request.arrays[0], finite)
        assert same(codec.decode(write(codec, request, [finite])).arrays[0], finite)


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_null_is_nan_both_ways(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (2,))
    codec = NativeTensorCodec(Signature((spec,), (spec,), False))
    request = codec.decode(b'{"x":[null,1]}')
    assert np.isnan(request.arrays[0].astype(float)).tolist() == [True, False]
    assert json.loads(write(codec, request, request.arrays)) == {"x": [None, 1.0]}


@pytest.mark.parametrize(("datatype", "value"), [("FP16", 65520), ("BF16", 3.5e38), ("FP32", 3.5e38)])
def test_numbers_beyond_a_float_are_refused_and_not_infinite(datatype: str, value: float) -> None:
    codec = NativeTensorCodec(Signature((TensorSpec("x", datatype, (1,)),), (), False))
    with pytest.raises(InvalidRequest, match=f"'x' is {datatype}, its data has a number beyond that range"):
        codec.decode(dumps({"x": [value]}))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a JSON object of inputs"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "takes each of these inputs once: x INT8[-1, 2]; got none"),
        (b'{"x":[[1,2]],"y":1}', "got 'x', 'y'"),
        (b'{"x":[1,2]}', "Expected `array`, got `int` - at `$[0]`"),
        (b'{"x":[[1,2,3]]}', "has shape [1, 3], the model takes [-1, 2]"),
        (b'{"x":[[1],[2,3]]}', "ragged"),
        (b'{"x":[]}', "has shape [0], the model takes [-1, 2]"),
        (b'{"x":[[1,200]]}', "'x' is INT8, its data has a number beyond that range"),
        (b'{"x":[[1,null]]}', "Expected `int`, got `null`"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_refusal_names_what_is_wrong(body: bytes, says: str) -> None:
    codec = NativeTensorCodec(Signature((TensorSpec("x", "INT8", (FREE, 2)),), (), True))
    with pytest.raises(InvalidRequest) as refused:
        codec.decode(body)
    assert says in refused.value.message


def test_of_a_repeated_key_the_last_counts() -> None:
    codec = NativeTensorCodec(Signature((TensorSpec("x", "INT8", (1,)),), (), False))
    assert codec.decode(b'{"x":[1],"x":[2]}').arrays[0].tolist() == [2]


def test_ragged_texts_are_refused() -> None:
    codec = NativeTensorCodec(Signature((TensorSpec("x", "BYTES", (FREE, FREE)),), (), True))
    for body in (b'{"x":[["a"],["b","c"]]}', b'{"x":[[],["b"]]}', b'{"x":[["a","b"],[]]}'):
        with pytest.raises(InvalidRequest, match="ragged"):
            codec.decode(body)


# --- what the queue must know of a Python class's request ------------------------------------------------------------


@given(st.lists(st.none() | st.text(max_size=3) | st.lists(st.integers(), max_size=2), min_size=1), st.booleans())
def test_rows_are_counted_whatever_they_are(values: list[Any], spaced: bool) -> None:
    body = json.dumps({"other": 1, "texts": values}, indent=2 if spaced else None).encode()
    assert count_rows(EMBED, body) == len(values)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"texts":null}', b'{"texts":"abc"}', b'{"texts":{"a":[1,2]}}', b'{"x":[1,2]}']
)
def test_what_is_no_list_counts_as_one_row_and_is_left_to_the_worker(body: bytes) -> None:
    assert count_rows(EMBED, body) == 1


def test_several_lists_must_be_of_one_length() -> None:
    assert count_rows(EMBED, b'{"texts":["a","b"],"scale":[1,2]}') == 2
    with pytest.raises(InvalidRequest, match="'texts' has 2, 'scale' has 1"):
        count_rows(EMBED, b'{"texts":["a","b"],"scale":[1]}')
    with pytest.raises(InvalidRequest, match="different numbers of rows"):
        count_rows(EMBED, b'{"texts":[],"scale":[1]}')


def test_empty_lists_are_one_row_of_work_and_no_error() -> None:
    assert count_rows(EMBED, b'{"texts":[]}') == 1


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null", b"{", b'{"a":}', b"\xff", b"[" * 10**5])
def test_what_is_no_json_object_never_reaches_a_queue(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a JSON object of arguments"):
        check_object(body)
    with pytest.raises(InvalidRequest, match="not a JSON object of arguments"):
        count_rows(EMBED, body)
