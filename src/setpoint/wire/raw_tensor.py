"""Tensors as raw bytes, little-endian and row-major: the V2 binary form that gRPC, binary REST and shared memory share.

Source: Triton's binary tensor data extension. BOOL is one byte an element; BYTES elements stand behind their lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidRequest, TensorSpec, decode_bytes_tensor, encode_bytes_tensor

Raw = bytes | memoryview


def array_of(spec: TensorSpec, raw: memoryview, shape: tuple[int, ...], elements: int) -> NDArray[Any]:
    """An array over raw bytes: no copy is made, but for BYTES and BOOL.

    Args:
        spec: the input.
        raw: its bytes, which must stay as they are while the array lives.
        shape: judged against ``spec`` already.
        elements: the product of ``shape``.

    Raises:
        InvalidRequest: the bytes are not as many as the shape says.
    """
    datatype = spec.type
    if not datatype.itemsize_bytes:
        try:
            return decode_bytes_tensor(raw, shape)
        except InvalidRequest as error:
            raise InvalidRequest(f"input {spec.name!r}: {error.message}") from error
    size_bytes = elements * datatype.itemsize_bytes
    if len(raw) != size_bytes:
        raise InvalidRequest(
            f"input {spec.name!r} of shape {list(shape)} {datatype.name} needs {size_bytes} bytes, got {len(raw)}"
        )
    if datatype.name == "BOOL":
        # Whatever is not 0 is true, as in C; numpy would take a byte of 2 for a bool of its own kind.
        return np.not_equal(np.frombuffer(raw, np.uint8), 0).reshape(shape)
    return np.frombuffer(raw, datatype.dtype).reshape(shape)


def bytes_of(array: NDArray[Any]) -> Raw:
    """An array's elements as raw bytes: over the array's own memory where that lies as it should."""
    if array.dtype.hasobject:
        return encode_bytes_tensor(array)
    # Flat and unsigned: bfloat16 offers no buffer of its own, and joining bytes takes only those of one dimension.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
