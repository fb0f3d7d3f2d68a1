"""Shared memory between a node and one worker: one arena for requests, one for answers.

An arena is an anonymous memory file (``memfd``), mapped by both sides and inherited by its descriptor: it has no name,
so nothing is left in ``/dev/shm`` whoever dies, and no resource tracker is needed. Its writer grows it; the reader maps
again when a message says that it is larger than what it has mapped.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import RequestTooLarge

ALIGNMENT_BYTES = 64
"""Tensors start at multiples of this: a cache line, and the widest vector register."""
_INITIAL_BYTES = 1 << 20


class Arena:
    """One direction's memory, seen from one side."""

    def __init__(self, descriptor: int, limit_bytes: int) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

    @classmethod
    def create(cls, limit_bytes: int) -> Arena:
        """Make an arena that a child process can inherit (by ``descriptor``)."""
        descriptor = os.memfd_create("setpoint-arena", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _INITIAL_BYTES)
        return cls(descriptor, limit_bytes)

    @property
    def descriptor(self) -> int:
        """The memory file's descriptor."""
        return self._descriptor

    @property
    def size_bytes(self) -> int:
        """Bytes mapped on this side."""
        return len(self._map)

    def reserve(self, needed_bytes: int) -> None:
        """Writer's side: make room.

        Raises:
            RequestTooLarge: more than the arena's limit.
        """
        if needed_bytes <= len(self._map):
            return
        if needed_bytes > self._limit_bytes:
            raise RequestTooLarge(
                f"a batch of {needed_bytes} bytes does not fit the worker's shared memory of {self._limit_bytes} bytes"
            )
        size_bytes = len(self._map)
        while size_bytes < needed_bytes:
            size_bytes *= 2
        os.ftruncate(self._descriptor, min(size_bytes, self._limit_bytes))
        self._remap()

    def follow(self, size_bytes: int) -> None:
        """Reader's side: the writer says that the arena has this size now."""
        if size_bytes > len(self._map):
            self._remap()

    def _remap(self) -> None:
        # The old mapping lives on for as long as an array still views it; it is never closed under a reader.
        self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)

    def view(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """An array over the arena's bytes, without a copy. Valid until the writer's next batch."""
        return np.ndarray(shape, dtype, self._map, offset)

    def read(self, offset: int, length_bytes: int) -> bytes:
        """A copy of some bytes."""
        return self._map[offset : offset + length_bytes]

    def write(self, offset: int, chunk: bytes | memoryview) -> None:
        """Copy bytes in; room must have been reserved."""
        self._map[offset : offset + len(chunk)] = chunk

    def close(self) -> None:
        """Give the descriptor back. The mapping goes with its last view."""
        os.close(self._descriptor)


def aligned(offset: int) -> int:
    """The next offset at which a tensor may start."""
    return (offset + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


def layout(sizes_bytes: Iterable[int]) -> tuple[list[int], int]:
    """Offsets for consecutive tensors of these sizes, each aligned, and the bytes they need in all."""
    offsets: list[int] = []
    end = 0
    for size_bytes in sizes_bytes:
        start = aligned(end)
        offsets.append(start)
        end = start + size_bytes
    return offsets, end
