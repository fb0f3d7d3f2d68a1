"""BYTES tensors as bytes: each element behind its length, a little-endian uint32.

Source: Triton's binary tensor data extension; the same form lies in the arenas between node and worker.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core.errors import InvalidRequest

_LENGTH = struct.Struct("<I")


def encode_bytes_tensor(array: NDArray[Any]) -> bytes:
    """Encode an ``object`` array of ``bytes`` or ``str`` (UTF-8), in row-major order."""
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        chunk = element.encode() if isinstance(element, str) else bytes(element)
        parts.append(_LENGTH.pack(len(chunk)))
        parts.append(chunk)
    return b"".join(parts)


def decode_bytes_tensor(encoded: bytes | memoryview, shape: tuple[int, ...]) -> NDArray[np.object_]:
    """Decode into an ``object`` array of ``bytes`` of the given shape.

    Raises:
        InvalidRequest: a length runs past the end, or the number of elements is not the shape's.
    """
    count = 1
    for length in shape:
        count *= length
    elements: list[bytes] = []
    position, end = 0, len(encoded)
    # As many as the shape says and no more: what else lies there may be millions.
    for _ in range(count):
        start = position + 4
        if start > end:
            if position < end:
                raise InvalidRequest("BYTES tensor ends inside an element's length")
            raise InvalidRequest(f"BYTES tensor of shape {list(shape)} needs {count} elements, got {len(elements)}")
        (length,) = _LENGTH.unpack_from(encoded, position)
        position = start + length
        if position > end:
            raise InvalidRequest(f"BYTES element of {length} bytes runs past the end of the tensor")
        elements.append(bytes(encoded[start:position]))
    if position != end:
        raise InvalidRequest(f"BYTES tensor of shape {list(shape)} needs {count} elements, got more")
    array = np.empty(count, dtype=object)
    array[:] = elements
    return array.reshape(shape)
