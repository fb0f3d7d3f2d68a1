"""numpy arrays to V2 requests and V2 answers to numpy arrays: JSON, or binary behind it.

Source: open-inference-protocol, ``inference_rest.md``; Triton's ``binary_tensor_data`` extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from setpoint.client.exchange import Part, Reply
from setpoint.core import DATATYPES, InvalidRequest, ModelError, TensorSpec, decode_bytes_tensor, encode_bytes_tensor

JSON_LENGTH = "inference-header-content-length"
JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"
_SIZE = "binary_data_size"


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    outputs: list[_Output]


_decode_answer = msgspec.json.Decoder(_Answer).decode


def encode_infer(
    model: str,
    specs: Mapping[str, TensorSpec],
    inputs: Mapping[str, ArrayLike],
    outputs: Sequence[str] | None,
    *,
    binary: bool,
) -> tuple[dict[str, str], tuple[Part, ...]]:
    """Headers and body of a request.

    Args:
        model: its name, for messages.
        specs: of its inputs.
        inputs: an array or nested list for each.
        outputs: wanted; None for all.
        binary: tensors follow the JSON as bytes, and the answer's may too.

    Raises:
        InvalidRequest: an input is not the model's, or does not fit its datatype.
    """
    tensors: list[dict[str, Any]] = []
    tails: list[Part] = []
    for name, value in inputs.items():
        spec = specs.get(name)
        if spec is None:
            raise InvalidRequest(f"model {model!r} has no input {name!r}; it takes {', '.join(specs) or 'no tensors'}")
        array = as_input(value, spec)
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": spec.datatype}
        if binary:
            raw = _raw(array)
            tails.append(raw)
            tensor["parameters"] = {_SIZE: len(raw)}
        elif not spec.type.json_number:
            raise InvalidRequest(f"input {name!r} is {spec.datatype}, which this server takes in no form that V2 has")
        else:
            tensor["data"] = array.ravel()
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors}
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    if binary:
        document["parameters"] = {"binary_data_output": True}
    head = orjson.dumps(document, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return {"content-type": JSON_TYPE}, (head,)
    return {"content-type": BINARY_TYPE, JSON_LENGTH: str(len(head))}, (head, *tails)


def decode_infer(reply: Reply) -> dict[str, NDArray[Any]]:
    """The outputs of an answer; binary ones lie in its body without a copy.

    Returns:
        arrays that may be written to, of the stated datatype and shape; BYTES as ``object`` arrays of ``str``, or of
        ``bytes`` where some element is not UTF-8.

    Raises:
        ModelError: the answer is malformed.
    """
    try:
        size = int(reply.headers.get(JSON_LENGTH, len(reply.body)))
        body = memoryview(reply.body)
        answer = _decode_answer(body[:size])
        arrays: dict[str, NDArray[Any]] = {}
        for output in answer.outputs:
            size_bytes = output.parameters.get(_SIZE)
            if size_bytes is None:
                arrays[output.name] = _from_json(output)
            else:
                arrays[output.name] = _from_raw(output, body[size : size + size_bytes])
                size += size_bytes
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, InvalidRequest) as error:
        raise ModelError(f"the answer is no V2 inference response: {error}") from error
    return arrays


def _from_json(output: _Output) -> NDArray[Any]:
    dtype = DATATYPES[output.datatype].dtype
    return np.array(output.data or [], dtype).reshape(output.shape)


def _from_raw(output: _Output, raw: memoryview) -> NDArray[Any]:
    datatype = DATATYPES[output.datatype]
    if not datatype.dtype.hasobject:
        return np.frombuffer(raw, datatype.dtype).reshape(output.shape)
    array = decode_bytes_tensor(raw, tuple(output.shape))
    try:
        texts = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        return array
    decoded = np.empty(len(texts), object)
    decoded[:] = texts
    return decoded.reshape(output.shape)


def as_input(value: ArrayLike, spec: TensorSpec) -> NDArray[Any]:
    """A value as an array of the input's datatype, where nothing is lost in kind.

    Raises:
        InvalidRequest: floats for integers, or integers beyond the datatype.
    """
    dtype = spec.type.dtype
    array = np.asarray(value)
    if dtype.hasobject:
        return array.astype(object)
    if not np.can_cast(array.dtype, dtype, "same_kind") and not (array.dtype.kind in "iu" and dtype.kind in "iufV"):
        raise InvalidRequest(f"input {spec.name!r} is {spec.datatype}, got an array of {array.dtype}")
    if dtype.kind in "iu" and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidRequest(
                f"input {spec.name!r} is {spec.datatype}, got values from {array.min()} to {array.max()}"
            )
    return array.astype(dtype, copy=False)


def _raw(array: NDArray[Any]) -> Part:
    if array.dtype.hasobject:
        return encode_bytes_tensor(array)
    # Flat and unsigned: bfloat16 offers no buffer of its own.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def encode_arguments(arguments: Mapping[str, Any]) -> bytes:
    """A native route's arguments as JSON; arrays as nested lists.

    Raises:
        InvalidRequest: a value has no JSON form.
    """
    try:
        return orjson.dumps(arguments, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidRequest(f"the arguments cannot be sent as JSON: {error.__cause__ or error}") from error


def plain(value: Any) -> Any:
    """What orjson cannot write itself."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"a value of type {type(value).__name__}")
