"""A value as bytes for a store that others can write to: nothing of it is believed that was not checked.

Not pickled: who can write to the store must not be able to run code here. What they can do is answer wrongly: the
checksum is against accidents, not against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import (
    DATATYPES,
    FREE,
    InvalidRequest,
    Signature,
    TensorSpec,
    decode_bytes_tensor,
    encode_bytes_tensor,
)
from setpoint.node.cache.values import JsonValue, TensorsValue, Value

_MAGIC = b"setpoint answer 1\n"
_CHECK_BYTES = 16


class _Tensor(msgspec.Struct, frozen=True, array_like=True):
    datatype: str
    shape: tuple[int, ...]
    elements: bytes


class _Parcel(msgspec.Struct, frozen=True, array_like=True):
    key: bytes
    variant: str
    body: bytes | None
    tensors: tuple[_Tensor, ...]


_decode = msgspec.msgpack.Decoder(_Parcel).decode


def pack(key: bytes, value: Value, signature: Signature | None) -> bytes:
    """The bytes for a value; ``signature`` is that of the endpoint where it has tensors."""
    body, tensors = None, []
    if isinstance(value, JsonValue):
        body = value.body
    else:
        assert signature is not None, "tensors come from an endpoint with a signature"
        for spec, array in zip(signature.outputs, value.arrays, strict=True):
            elements = encode_bytes_tensor(array) if array.dtype.hasobject else array.tobytes()
            tensors.append(_Tensor(spec.datatype, array.shape, elements))
    text = msgspec.msgpack.encode(_Parcel(key, value.variant, body, tuple(tensors)))
    return _MAGIC + _check(text) + text


def unpack(parcel: bytes, key: bytes, signature: Signature | None, rows: int) -> Value | None:
    """The value; None where the bytes are not whole, are of another key, or cannot be what the model gives.

    Args:
        parcel: from the store.
        key: that was asked for.
        signature: of the endpoint, where it has tensors.
        rows: of the request: what every output's first axis must be where the signature is batched.
    """
    begin = len(_MAGIC) + _CHECK_BYTES
    text = parcel[begin:]
    if parcel[: len(_MAGIC)] != _MAGIC or parcel[len(_MAGIC) : begin] != _check(text):
        return None
    try:
        found = _decode(text)
        if found.key != key:
            return None
        if found.body is not None:
            return JsonValue(found.body, found.variant)
        if signature is None:
            return None
        return TensorsValue(_arrays(found.tensors, signature, rows), found.variant)
    except (msgspec.MsgspecError, InvalidRequest, ValueError):
        return None


def _arrays(tensors: Sequence[_Tensor], signature: Signature, rows: int) -> list[NDArray[Any]]:
    if len(tensors) != len(signature.outputs):
        raise ValueError("another number of outputs")
    return [
        _array(tensor, spec, rows if signature.batched else None)
        for tensor, spec in zip(tensors, signature.outputs, strict=True)
    ]


def _array(tensor: _Tensor, spec: TensorSpec, rows: int | None) -> NDArray[Any]:
    shape = tensor.shape
    fits = len(shape) == len(spec.shape) and all(
        length >= 0 and wanted in (FREE, length) for length, wanted in zip(shape, spec.shape, strict=True)
    )
    if tensor.datatype != spec.datatype or not fits or (rows is not None and shape[:1] != (rows,)):
        raise ValueError("not what the signature says")
    dtype = DATATYPES[spec.datatype].dtype
    if dtype.hasobject:
        return decode_bytes_tensor(tensor.elements, shape)
    # Copied: the bytes of the whole message would stay alive for one of its tensors.
    array = np.frombuffer(tensor.elements, np.uint8 if dtype.kind == "b" else dtype).reshape(shape)
    return np.not_equal(array, 0) if dtype.kind == "b" else array.copy()


def _check(text: bytes) -> bytes:
    return blake2b(text, digest_size=_CHECK_BYTES).digest()
