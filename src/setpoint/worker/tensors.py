"""Arrays into an arena and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, TensorSpec, decode_bytes_tensor, encode_bytes_tensor
from setpoint.worker.arena import Arena, aligned, layout
from setpoint.worker.messages import TensorExtent

Arrays = Sequence[NDArray[Any]]


def put_batch(arena: Arena, specs: Sequence[TensorSpec], requests: Sequence[Arrays]) -> list[TensorExtent]:
    """Lay the requests' arrays end to end along the batch axis, one tensor for each input: one copy, no joining before.

    Args:
        arena: the one this side writes.
        specs: one for each input.
        requests: for each request its arrays, in the order of ``specs``; equal but for the first axis.

    Raises:
        RequestTooLarge: the batch does not fit the arena.
    """
    if len(requests) == 1:
        return put(arena, specs, requests[0])
    encoded: list[bytes | None] = []
    shapes: list[tuple[int, ...]] = []
    sizes: list[int] = []
    for index, spec in enumerate(specs):
        arrays = [request[index] for request in requests]
        shape = (sum([array.shape[0] for array in arrays]), *arrays[0].shape[1:])
        chunk = b"".join(map(encode_bytes_tensor, arrays)) if spec.datatype == "BYTES" else None
        encoded.append(chunk)
        shapes.append(shape)
        sizes.append(_size_bytes(spec, shape) if chunk is None else len(chunk))
    offsets, needed_bytes = layout(sizes)
    arena.reserve(needed_bytes)
    extents: list[TensorExtent] = []
    for index, spec in enumerate(specs):
        chunk, offset, shape = encoded[index], offsets[index], shapes[index]
        if chunk is None:
            destination = arena.view(offset, spec.type.dtype, shape)
            np.concatenate([request[index] for request in requests], out=destination)
        else:
            arena.write(offset, chunk)
        extents.append(TensorExtent(spec.datatype, shape, offset, sizes[index]))
    return extents


def put(arena: Arena, specs: Sequence[TensorSpec], arrays: Arrays) -> list[TensorExtent]:
    """Copy arrays into the arena.

    Raises:
        RequestTooLarge: they do not fit.
    """
    extents: list[TensorExtent] = []
    chunks: list[bytes | None] = []
    end = 0
    for spec, array in zip(specs, arrays, strict=True):
        chunk = encode_bytes_tensor(array) if spec.datatype == "BYTES" else None
        size_bytes = array.size * spec.type.itemsize_bytes if chunk is None else len(chunk)
        offset = aligned(end)
        end = offset + size_bytes
        chunks.append(chunk)
        extents.append(TensorExtent(spec.datatype, array.shape, offset, size_bytes))
    arena.reserve(end)
    for extent, array, chunk in zip(extents, arrays, chunks, strict=True):
        if chunk is None:
            arena.view(extent.offset, DATATYPES[extent.datatype].dtype, extent.shape)[...] = array
        else:
            arena.write(extent.offset, chunk)
    return extents


def get(arena: Arena, extents: Sequence[TensorExtent]) -> list[NDArray[Any]]:
    """Arrays over the arena's bytes (BYTES are decoded, so copied). Valid until the writer's next batch."""
    arrays: list[NDArray[Any]] = []
    for extent in extents:
        if extent.datatype == "BYTES":
            arrays.append(decode_bytes_tensor(arena.read(extent.offset, extent.length_bytes), extent.shape))
        else:
            arrays.append(arena.view(extent.offset, DATATYPES[extent.datatype].dtype, extent.shape))
    return arrays


def _size_bytes(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    size_bytes = spec.type.itemsize_bytes
    for length in shape:
        size_bytes *= length
    return size_bytes
