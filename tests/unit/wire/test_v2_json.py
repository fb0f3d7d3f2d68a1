"""Open Inference Protocol V2 over JSON: what is written is read back, and what is wrong is named."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import dumps, models, plain, read, same, write

from setpoint.core import FREE, InvalidRequest, Signature, TensorSpec
from setpoint.wire import V2Codec

IRIS = Signature((TensorSpec("X", "FP32", (FREE, 4)),), (TensorSpec("y", "INT64", (FREE,)),), True)
CODEC = V2Codec(IRIS, "iris", "3")
ROW = [5.1, 3.5, 1.4, 0.2]


def infer(*inputs: dict[str, Any], **rest: Any) -> bytes:
    return dumps({"inputs": list(inputs), **rest})


def tensor(
    data: Any = ROW, shape: Any = (1, 4), datatype: Any = "FP32", name: Any = "X", **rest: Any
) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **rest}


def refusal(body: bytes, codec: V2Codec = CODEC) -> str:
    with pytest.raises(InvalidRequest) as refused:
        codec.decode(body)
    return refused.value.message


def tensors_of(signature: Signature, arrays: list[NDArray[Any]]) -> list[dict[str, Any]]:
    pairs = zip(signature.inputs, arrays, strict=True)
    return [tensor(plain(array.reshape(-1)), array.shape, spec.datatype, spec.name) for spec, array in pairs]


@given(models(), st.data())
def test_any_tensor_is_read_flat_or_nested(model: tuple[Signature, list[NDArray[Any]]], data: st.DataObject) -> None:
    signature, arrays = model
    inputs = []
    for spec, array in zip(signature.inputs, arrays, strict=True):
        flat = data.draw(st.booleans()) or array.ndim == 0
        values = plain(array.reshape(-1) if flat else array)
        inputs.append(tensor(values, array.shape, spec.datatype, spec.name))
    data.draw(st.randoms()).shuffle(inputs)
    request = V2Codec(signature, "m", "1").decode(infer(*inputs))
    assert all(map(same, request.arrays, arrays))
    assert request.rows == (arrays[0].shape[0] if signature.batched else 1)


@given(models(), st.text(st.characters(exclude_categories=["Cs"])), st.data())
def test_any_output_is_written_as_declared(
    model: tuple[Signature, list[NDArray[Any]]], request_id: str, data: st.DataObject
) -> None:
    signature, arrays = model
    codec = V2Codec(signature, 'a "model"', "7")
    names = [spec.name for spec in signature.outputs]
    chosen = data.draw(st.none() | st.lists(st.sampled_from(names), unique=True))
    inputs = tensors_of(signature, arrays)
    wanted = {} if chosen is None else {"outputs": [{"name": name} for name in chosen]}
    request = codec.decode(infer(*inputs, id=request_id, **wanted))
    response = json.loads(write(codec, request, arrays))
    assert response["model_name"] == 'a "model"'
    assert response["model_version"] == "7"
    assert response.get("id", "") == request_id
    assert [output["name"] for output in response["outputs"]] == (chosen or names)
    for output in response["outputs"]:
        position = names.index(output["name"])
        array = arrays[position]
        assert output["shape"] == list(array.shape)
        assert output["datatype"] == signature.outputs[position].datatype
        assert same(read(output["data"], array), array)


@given(models())
def test_what_was_written_can_be_read_again(model: tuple[Signature, list[NDArray[Any]]]) -> None:
    signature, arrays = model
    codec = V2Codec(signature, "m", "1")
    inputs = tensors_of(signature, arrays)
    written = json.loads(write(codec, codec.decode(infer(*inputs)), arrays))
    assert all(map(same, codec.decode(infer(*written["outputs"])).arrays, arrays))


def test_outputs_from_shared_memory_are_written_whatever_their_strides() -> None:
    codec = V2Codec(Signature((), (TensorSpec("y", "FP32", (2, 3)),), False), "m", "1")
    request = codec.decode(infer())
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2].T
    assert json.loads(write(codec, request, [array]))["outputs"][0]["data"] == array.reshape(-1).tolist()


def test_infinities_are_written_as_null() -> None:
    codec = V2Codec(Signature((), (TensorSpec("y", "FP64", (3,)),), False), "m", "1")
    written = write(codec, codec.decode(infer()), [np.array([np.inf, -np.inf, np.nan])])
    assert json.loads(written)["outputs"][0]["data"] == [None] * 3


def test_null_is_nan() -> None:
    (array,) = CODEC.decode(infer(tensor([None, 1, 2, 3]))).arrays
    assert np.isnan(array[0, 0])


@pytest.mark.parametrize("asked", [{}, {"outputs": []}, {"outputs": None}])
def test_all_outputs_are_given_unless_some_are_named(asked: dict[str, Any]) -> None:
    assert CODEC.decode(infer(tensor(), **asked)).wanted is None


def test_an_output_asked_for_again_and_again_is_refused() -> None:
    """A name of ten bytes must not buy another copy of the whole answer."""
    assert "'y' is asked for twice" in refusal(infer(tensor(), outputs=[{"name": "y"}] * 2))


def test_parameters_are_read_over() -> None:
    parameters = {"timeout": 1000, "priority": 1, "any": "thing", "binary_data_output": False}
    outputs = [{"name": "y", "parameters": {"binary_data": False}}]
    body = infer(tensor(parameters={"a": 1}), parameters=parameters, outputs=outputs, unknown={"a": [1]})
    assert CODEC.decode(body).wanted == (0,)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a V2 inference request: the body is not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (infer(), "takes each of these inputs once: X FP32[-1, 4]; got none"),
        (infer(tensor(), tensor()), "got 'X', 'X'"),
        (infer(tensor(name="Y")), "got 'Y'"),
        (infer(tensor(name=1)), "Expected `str`, got `int`"),
        (infer(tensor(datatype="FP64")), "has datatype 'FP64', the model takes FP32"),
        (infer(tensor(datatype="F" * 1000)), "F…' , the model takes FP32".replace(" ,", ",")),
        (infer(tensor(shape=[4])), "has shape [4], the model takes [-1, 4]"),
        (infer(tensor(shape=[1, 5])), "has shape [1, 5], the model takes [-1, 4]"),
        (infer(tensor(shape=[-1, 4])), "has shape [-1, 4], the model takes [-1, 4]"),
        (infer(tensor(shape=[2, 4])), "of shape [2, 4] needs 8 elements, its data has 4"),
        (infer(tensor(shape=[10**7, 4])), "needs 40000000 elements, its data has 4"),
        (infer(tensor(shape=[10**18, 4])), "the model takes [-1, 4] (-1: up to 2147483647)"),
        (infer(tensor(shape=[True, 4])), "Expected `int`, got `bool`"),
        (infer(tensor(shape=[1.0, 4])), "Expected `int`, got `float`"),
        (infer(tensor(shape=["1", 4])), "Expected `int`, got `str`"),
        (infer(tensor(shape=[10**4000, 4])), "has shape [1000000000"),
        (infer(tensor([], [0, 4])), "no rows"),
        (infer({"name": "X", "shape": [1, 4], "datatype": "FP32"}), "'X' has no data"),
        (infer(tensor(None)), "Expected `array`, got `null`"),
        (infer(tensor(5)), "Expected `array`, got `int`"),
        (infer(tensor(["1", 2, 3, 4])), "Expected `float | null`, got `str` - at `$[0]`"),
        (infer(tensor([True, 2, 3, 4])), "got `bool`"),
        (infer(tensor([[5.1, 3.5], [1.4, 0.2]])), "is nested as [2, 2]"),
        (infer(tensor([[5.1, 3.5, 1.4], [0.2]], [2, 4])), "ragged"),
        (infer(tensor([[[1, 2, 3, 4]]])), "got `array`"),
        (infer(tensor([float("nan"), 2, 3, 4])), "not valid JSON"),
        (infer(tensor([float("-inf"), 2, 3, 4])), "not valid JSON"),
        (infer(tensor([1e39, 2, 3, 4])), "'X' is FP32, its data has a number beyond that range"),
        (infer(tensor([[-1e39, 2, 3, 4]])), "a number beyond that range"),
        (infer(tensor()).replace(b"5.1", b"1e999"), "out of range"),
        (infer(tensor()).replace(b"5.1", b"9" * 5000), "out of range"),
        (infer(tensor()).replace(b"5.1", b"05.1"), "not valid JSON"),
        (infer(tensor(), id=5), "Expected `str`, got `int` - at `$.id`"),
        (infer(tensor(), id="\ud800"), "not valid JSON"),
        (infer(tensor()).replace(b'"X"', b'"\xff"'), "not valid JSON"),
        (infer(tensor(), parameters=[1]), "Expected `object"),
        (infer(tensor(), outputs=[{"name": "z"}]), "no output 'z'; it has 'y'"),
        (infer(tensor(), outputs=[{"name": "z" * 10**6}]), "zzz…'; it has 'y'"),
        (infer(tensor(), parameters={"a": "?"}).replace(b'"?"', b"[" * 10**5 + b"]" * 10**5), "nested too deeply"),
        (infer(tensor("?")).replace(b'"?"', b"[" * 10**5 + b"]" * 10**5), "nested too deeply"),
        (infer(tensor()) + b" 1", "not valid JSON"),
        (infer(tensor()) + b"\x00", "not valid JSON"),
        (b"\xef\xbb\xbf" + infer(tensor()), "not valid JSON"),
        (infer(tensor()).decode().encode("utf-16"), "not valid JSON"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_refusal_names_what_is_wrong(body: bytes, says: str) -> None:
    message = refusal(body)
    assert says in message
    assert len(message) < 600


def test_integers_beyond_their_type_are_refused() -> None:
    for datatype, value in (("UINT8", 256), ("UINT8", -1), ("INT64", 2**63), ("UINT64", -1), ("INT8", 10**30)):
        codec = V2Codec(Signature((TensorSpec("x", datatype, (1,)),), (), False), "m", "1")
        assert f"is {datatype}, its data has a number beyond" in refusal(
            infer(tensor([value], [1], datatype, "x")), codec
        )


def test_shapes_whose_product_has_thousands_of_digits_are_refused() -> None:
    """Python refuses to print numbers of more than 4300 digits, with an error of its own."""
    codec = V2Codec(Signature((TensorSpec("x", "FP32", (FREE, FREE)),), (), True), "m", "1")
    assert "has shape [1000" in refusal(infer(tensor([1], [10**4000, 10**4000], name="x")), codec)


@pytest.mark.parametrize("shape", [[10**9, 0], [0, 10**18], [2**31 - 1, 0], [5000, 0]])
def test_long_axes_with_no_data_behind_them_are_refused(shape: list[int]) -> None:
    """Rows of no width cost the client nothing and the model memory for each of them."""
    codec = V2Codec(Signature((TensorSpec("x", "FP32", (FREE, FREE)),), (), True), "m", "1")
    refusal(infer(tensor([], shape, name="x")), codec)
    assert codec.decode(infer(tensor([], [3, 0], name="x"))).rows == 3


def test_datatypes_without_a_json_form_are_sent_to_the_native_route() -> None:
    takes = V2Codec(Signature((TensorSpec("x", "FP16", (1,)),), (), False), "m", "1")
    assert "FP16 has no V2 JSON form" in refusal(infer(tensor([1], [1], "FP16", "x")), takes)
    gives = V2Codec(Signature((), (TensorSpec("y", "BF16", (1,)),), False), "m", "1")
    assert "'y' is BF16, which has no V2 JSON form" in refusal(infer(), gives)


def test_batched_inputs_must_have_equal_rows() -> None:
    specs = (TensorSpec("a", "INT8", (FREE,)), TensorSpec("b", "INT8", (FREE,)))
    codec = V2Codec(Signature(specs, specs, True), "m", "1")
    body = infer(tensor([1], [1], "INT8", "a"), tensor([1, 2], [2], "INT8", "b"))
    assert "'a' has 1 rows, 'b' has 2" in refusal(body, codec)


def test_only_requests_of_equal_inner_shapes_share_a_lane() -> None:
    codec = V2Codec(Signature((TensorSpec("x", "INT8", (FREE, FREE)),), (), True), "m", "1")
    shapes = [
        codec.decode(infer(tensor([1] * 6, shape, "INT8", "x"))).inner_shapes for shape in ([1, 6], [2, 3], [6, 1])
    ]
    assert shapes == [((6,),), ((3,),), ((1,),)]
    assert CODEC.decode(infer(tensor())).inner_shapes == ()
