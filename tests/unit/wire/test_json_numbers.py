"""Large lists of numbers are read as the reader for everything reads them: the same array or the same refusal."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import arrays, dumps, json_values, models, plain, same

from setpoint.core import DATATYPES, FREE, Datatype, InvalidRequest, Limits, RequestTooLarge, Signature, TensorSpec
from setpoint.wire import (
    InferRequest,
    NativeTensorCodec,
    V2Codec,
    json_cut,
    json_tensor,
    native_numbers,
    simdjson_numbers,
)
from setpoint.wire.json_cut import cut
from setpoint.wire.json_numbers import Elements, Lists, lists_of

NUMBERS = [name for name, datatype in DATATYPES.items() if datatype.is_float or datatype.is_integer]


def simdjson_lists(datatype: Datatype) -> Lists:
    return simdjson_numbers.SimdjsonLists(Elements(datatype))


READERS = [simdjson_lists] if native_numbers.native_library() is None else [lists_of, simdjson_lists]
"""Every reader that is here: the native one where it was built."""


@contextlib.contextmanager
def every_list_is_large(reader: Callable[[Datatype], Lists]) -> Iterator[None]:
    """Lists of any length are cut out, and read in pieces of a few bytes."""
    with (
        patch.object(json_tensor, "lists_of", reader),
        patch.object(json_tensor, "WORTHWHILE_BYTES", 0),
        patch.object(json_tensor, "WORTHWHILE_ELEMENTS", -1),
        patch.object(json_cut, "_WORTHWHILE_BYTES", 0),
        patch.object(simdjson_numbers, "_PIECE_BYTES", 5),
        patch.object(simdjson_numbers, "_SLICE_BYTES", 11),
        patch.object(native_numbers, "_SLICE_BYTES", 11),
    ):
        yield


@contextlib.contextmanager
def no_list_is_large() -> Iterator[None]:
    with (
        patch.object(json_tensor, "WORTHWHILE_BYTES", 1 << 40),
        patch.object(json_tensor, "WORTHWHILE_ELEMENTS", 1 << 40),
        patch.object(json_cut, "_WORTHWHILE_BYTES", 1 << 40),
    ):
        yield


def outcome(codec: V2Codec | NativeTensorCodec, body: bytes) -> InferRequest | None:
    """What was read; None where it was refused."""
    try:
        if isinstance(codec, NativeTensorCodec):
            return codec.decode(body)
        work = codec.read(body, None)
        while True:
            next(work)
    except StopIteration as done:
        request: InferRequest = done.value
        return request
    except InvalidRequest:
        return None


def agree(codec: V2Codec | NativeTensorCodec, body: bytes) -> bool:
    """All ways of reading give the same; returns whether it was read."""
    with no_list_is_large():
        slowly = outcome(codec, body)
    read = [agrees(codec, body, slowly, reader) for reader in READERS]
    return all(read)


def agrees(
    codec: V2Codec | NativeTensorCodec,
    body: bytes,
    slowly: InferRequest | None,
    reader: Callable[[Datatype], Lists],
) -> bool:
    with every_list_is_large(reader):
        fast = outcome(codec, body)
    if slowly is None or fast is None:
        assert slowly is fast, body
        return False
    assert all(map(same, fast.arrays, slowly.arrays)), body
    assert [fast.rows, fast.id, fast.wanted, fast.inner_shapes] == [
        slowly.rows,
        slowly.id,
        slowly.wanted,
        slowly.inner_shapes,
    ]
    return True


def infer(*tensors: tuple[TensorSpec, NDArray[Any], Any], **rest: Any) -> bytes:
    inputs = [
        {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype, "data": data}
        for spec, array, data in tensors
    ]
    return dumps({"inputs": inputs, **rest})


def codec_of(datatype: str, *shape: int, **limits: int) -> V2Codec:
    return V2Codec(Signature((TensorSpec("x", datatype, shape),), (), False), "m", "1", limits=Limits(**limits))


def body_of(datatype: str, data: str, *shape: int) -> bytes:
    return f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{list(shape)},"data":{data}}}]}}'.encode()


@given(models(), st.data())
def test_any_tensor_is_read_the_same(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, tensors = model
    flat = data.draw(st.booleans())
    triples = [
        (spec, array, plain(array.reshape(-1) if flat or array.ndim == 0 else array))
        for spec, array in zip(signature.inputs, tensors, strict=True)
    ]
    assert agree(V2Codec(signature, "m", "1"), infer(*triples, id="an id"))
    native = {spec.name: plain(array) for spec, array, _ in triples}
    agree(NativeTensorCodec(signature), dumps(native))


NUMBER = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
ALMOST = NUMBER | st.sampled_from(
    ["null", "true", "", " ", "01", "1.", ".5", "+1", "-", "NaN", '"1"', "[1]", "{}", "1 2"]
)


@given(st.sampled_from(NUMBERS), st.lists(NUMBER | ALMOST, max_size=8), st.sampled_from(["", " ", "\n\t"]))
@settings(max_examples=600)
@example("FP64", ["-0", "-0.0", "-0e1", "1e-400"], "")
@example("FP64", ["1e400"], "")
@example("FP32", ["3.4028235677973366e38"], "")
@example("FP32", ["3.4028235677973362e38"], "")
@example("UINT64", ["18446744073709551615"], "")
@example("INT64", ["9223372036854775808"], "")
@example("INT8", ["1", "2", "3", "4", "128"], "")
@example("FP64", ["123456789012345678901234567890"], "")
@example("FP64", ["1", "2", "3", "4", "5", "6", ""], "")
@example("INT32", ["1.0"], "")
def test_any_list_of_what_looks_like_numbers_is_read_or_refused_alike(
    datatype: str, numbers: list[str], space: str
) -> None:
    data = f"[{space}{f'{space},{space}'.join(numbers)}{space}]"
    for elements in {len(numbers), len([number for number in numbers if number])}:
        agree(codec_of(datatype, FREE), body_of(datatype, data, elements))
    agree(NativeTensorCodec(codec_of(datatype, FREE)._reader.signature), f'{{"x":{data}}}'.encode())


@given(st.sampled_from(NUMBERS), st.data())
@settings(max_examples=400)
def test_any_nesting_is_read_or_refused_alike(datatype: str, data: st.DataObject) -> None:
    nested = data.draw(st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=9))
    shape = data.draw(st.just(np.shape(nested)) if _regular(nested) else st.just((2, 2)))
    agree(codec_of(datatype, *[FREE] * len(shape)), body_of(datatype, json.dumps(nested), *shape))
    rank = data.draw(st.integers(0, 3))
    agree(NativeTensorCodec(codec_of(datatype, *[FREE] * rank)._reader.signature), dumps({"x": nested}))


def _regular(nested: Any) -> bool:
    try:
        np.array(nested)
    except ValueError:
        return False
    return isinstance(nested, list)


@given(st.sampled_from(NUMBERS), st.sampled_from([(6,), (2, 3), (1, 2, 3)]), st.booleans(), st.data())
@settings(max_examples=800)
def test_damaged_requests_are_read_or_refused_alike(
    datatype: str, shape: tuple[int, ...], flat: bool, data: st.DataObject
) -> None:
    """A few characters are taken out and others put in, of those that mean something here."""
    spec = TensorSpec("x", datatype, (FREE,) * len(shape))
    array = data.draw(arrays(datatype, shape))
    body = infer((spec, array, plain(array.reshape(-1) if flat else array)))
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(st.text('[]{},:" 0123456789-+.eE\\dat', max_size=3)).encode()
    body = body[:at] + put + body[at + data.draw(st.integers(0, 3)) :]
    agree(V2Codec(Signature((spec,), (), False), "m", "1"), body)


@given(st.lists(json_values, max_size=3), st.data())
def test_what_only_looks_like_data_is_left_alone(values: list[Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(["data", 'a"data', "data\\", '"data":[1,2]', "x"]))
    spec = TensorSpec("x", "FP32", (2,))
    body = infer((spec, np.zeros(2), [1, 2]), parameters={key: values}, **{"data": values}, id=key)
    agree(V2Codec(Signature((spec,), (), False), "m", "1"), body)


@pytest.mark.parametrize(
    "place", ["%b", '"parameters":{"data":%b},', '"unknown":{"data":%b},', '"outputs":[{"data":%b}],']
)
@pytest.mark.parametrize("numbers", ["[1,2]", "[1,,2]", "[1,2,]", "[1 2]", "[1,01]", "[[1,2]", "[null]"])
def test_lists_that_nobody_needs_must_be_valid_too(place: str, numbers: str) -> None:
    elsewhere = place.replace("%b", numbers if "data" in place else "").encode()
    body = body_of("FP32", "[1,2]", 2)
    for damaged in (b"{%b%b" % (elsewhere, body[1:]), body[:-3] + b"," + elsewhere.rstrip(b",") + body[-3:]):
        agree(codec_of("FP32", 2), damaged)


def test_a_mark_cannot_be_written_by_a_client() -> None:
    body = body_of("FP32", "[" + "1," * 10_000 + "1]", 10_001)
    shortened = cut(body)
    assert len(shortened.spans) == 1
    assert len(shortened.rest) < 200
    forged = shortened.rest.replace(json_cut._NONCE, b"0" * 32)
    assert outcome(codec_of("FP32", FREE), forged) is None


@pytest.mark.parametrize("reader", READERS)
def test_a_string_of_numbers_is_no_list_of_them(reader: Callable[[Datatype], Lists]) -> None:
    body = body_of("FP32", '"' + "1," * 99 + '1"', 100)
    with (
        patch.object(json_tensor, "lists_of", reader),
        pytest.raises(InvalidRequest, match="Expected `array`, got `str`"),
    ):
        codec_of("FP32", FREE).decode(body)


def test_many_keys_without_an_end_do_not_take_long() -> None:
    """Each would look for the end of its list through all that follows."""
    text = b'"data":[' * 500_000
    assert cut(text).spans == []


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("nested", [False, True])
def test_an_image_makes_no_object_for_a_number(nested: bool, reader: Callable[[Datatype], Lists]) -> None:
    array = np.random.default_rng(1).random((1, 3, 224, 224), np.float32)
    body = infer((TensorSpec("x", "FP32", array.shape), array, plain(array if nested else array.reshape(-1))))
    objects = patch.object(json_tensor.TensorReader, "_array", side_effect=AssertionError("a list of objects"))
    with objects, patch.object(json_tensor, "lists_of", reader):
        request = outcome(codec_of("FP32", *array.shape), body)
    assert request is not None
    assert same(request.arrays[0], array)


@pytest.mark.parametrize("reader", READERS)
def test_lists_of_numbers_may_be_longer_than_other_json(reader: Callable[[Datatype], Lists]) -> None:
    body = body_of("INT64", "[" + "1000," * 99_999 + "1000]", 100_000)
    codec = codec_of("INT64", FREE, json_limit_bytes=4096)

    def read(body: bytes) -> tuple[Any, int]:
        work, slices = codec.read(body, None), 1
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value, slices
            slices += 1

    with (
        patch.object(native_numbers, "_SLICE_BYTES", 1 << 16),
        patch.object(simdjson_numbers, "_SLICE_BYTES", 1 << 16),
        patch.object(simdjson_numbers, "_PIECE_BYTES", 1 << 14),
        patch.object(json_tensor, "lists_of", reader),
    ):
        request, slices = read(body)
    assert request.arrays[0].shape == (100_000,)
    assert slices > 5
    for wrong in (
        body.replace(b"1000]", b"null]"),
        body.replace(b"1000]", b'"1"]'),
        body.replace(b'"x"', b'"x" ' * 2000),
    ):
        with pytest.raises(RequestTooLarge, match="flat lists of numbers"):
            read(wrong)
    for wrong, says in (
        (body.replace(b",1000]", b"]"), "its data has 99999"),
        (body.replace(b'"x"', b'"y"'), "got 'y'"),
    ):
        with pytest.raises((InvalidRequest, RequestTooLarge), match=f"{says}|flat lists of numbers"):
            read(wrong)
