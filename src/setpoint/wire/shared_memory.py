"""Tensors that lie in memory which a client shares with the node: what a request says of them.

Source: Triton, ``extension_shared_memory``, its system shared memory. Requests name a region that was registered
before, an offset in it and a length; what is behind the name is the node's to know.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from setpoint.core import InvalidRequest, TensorSpec
from setpoint.wire.raw_tensor import Raw, array_of, bytes_of

SHARED_MEMORY_OFF = "shared memory is off; start the node with --shared-memory"


class Extent(msgspec.Struct, frozen=True, gc=False):
    """A part of a region.

    Attributes:
        region: the name under which it was registered.
        offset: bytes from the region's begin.
        size_bytes: of the part.
    """

    region: str
    offset: int
    size_bytes: int

    @property
    def parameters(self) -> dict[str, str | int]:
        """As a response's output says it."""
        return {
            "shared_memory_region": self.region,
            "shared_memory_offset": self.offset,
            "shared_memory_byte_size": self.size_bytes,
        }


class Place(Protocol):
    """Where an output goes; it stays what it was also if its region is unregistered meanwhile."""

    def write(self, raw: Raw) -> None:
        """Put bytes at its begin.

        Raises:
            RequestError: they are more than it has room for, or the region is not any more what it was.
        """
        ...


class SharedMemory(Protocol):
    """The regions of a node."""

    def read(self, extent: Extent) -> memoryview:
        """A copy of a part: what the client does to it afterwards changes nothing.

        Raises:
            RequestError: no such region, or the part is not within it.
        """
        ...

    def place(self, extent: Extent) -> Place:
        """A part to be written later.

        Raises:
            RequestError: no such region, or the part is not within it.
        """
        ...


class SharedOutput(msgspec.Struct, frozen=True, gc=False):
    """Where one output is wanted.

    Attributes:
        extent: as the request says it.
        place: the room for it.
    """

    extent: Extent
    place: Place

    def put(self, array: NDArray[Any]) -> Extent:
        """Write an output; returns what was written."""
        raw = bytes_of(array)
        self.place.write(raw)
        return Extent(self.extent.region, self.extent.offset, len(raw))


class NoSharedMemory:
    """Of a node that was not told to share memory."""

    def read(self, extent: Extent) -> memoryview:
        """Refuse."""
        raise InvalidRequest(SHARED_MEMORY_OFF)

    def place(self, extent: Extent) -> Place:
        """Refuse."""
        raise InvalidRequest(SHARED_MEMORY_OFF)


NO_SHARED_MEMORY = NoSharedMemory()


def shared_array(
    memory: SharedMemory, spec: TensorSpec, extent: Extent, shape: tuple[int, ...], elements: int
) -> NDArray[Any]:
    """An input's array, from a part of a region.

    Args:
        memory: the node's.
        spec: the input.
        extent: the part.
        shape: judged against ``spec`` already.
        elements: the product of ``shape``.

    Raises:
        RequestError: no such part, or it has other bytes than the shape needs.
    """
    itemsize_bytes = spec.type.itemsize_bytes
    if itemsize_bytes and extent.size_bytes != elements * itemsize_bytes:
        raise InvalidRequest(
            f"input {spec.name!r} of shape {list(shape)} {spec.datatype} needs {elements * itemsize_bytes} bytes, its "
            f"shared_memory_byte_size is {extent.size_bytes}"
        )
    return array_of(spec, memory.read(extent), shape, elements)
