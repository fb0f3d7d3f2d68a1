"""A growing piece of shared memory with one writer and one reader, and the small message that describes a tensor in it.

The writer gives each slot (one per batch in flight) its own region and appends a larger one when a batch does not fit;
the reader maps again when a message tells of a larger arena. The file has no name, so nothing is left behind by a
crash, and it is sealed against shrinking, so a broken writer cannot make the reader fault.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

FIRST_BYTES = 64 * 1024
ALIGN_BYTES = 64  # a cache line, and what vectorised kernels like to load from


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """Where the tensor of batch `ticket` lies; what crosses the socket."""

    ticket: int
    arena_bytes: int
    offset: int
    dtype: str
    shape: tuple[int, ...]


class Arena:
    """Shared memory behind the descriptor `fd`; `create` makes a new one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._slots: dict[int, tuple[int, int]] = {}
        self._used_bytes = 0

    @classmethod
    def create(cls, name: str) -> Arena:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, FIRST_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(fd)

    def write(self, ticket: int, slot: int, rows: Sequence[NDArray[Any]]) -> Placed:
        """Gather `rows` (each [k, ...], same dtype) into the region of `slot`, whose earlier content is done with."""
        offset, capacity = self._slots.get(slot, (0, 0))
        size = sum(one.nbytes for one in rows)
        if capacity < size:
            capacity = -(-size // ALIGN_BYTES) * ALIGN_BYTES
            offset, self._used_bytes = self._used_bytes, self._used_bytes + capacity
            self._slots[slot] = offset, capacity
            if self._used_bytes > len(self._memory):
                os.ftruncate(self.fd, max(self._used_bytes, 2 * len(self._memory)))
                self._map_again()
        shape = (sum(len(one) for one in rows), *rows[0].shape[1:])
        placed = Placed(ticket, len(self._memory), offset, rows[0].dtype.str, shape)
        np.concatenate(rows, out=self.view(placed))
        return placed

    def view(self, placed: Placed) -> NDArray[Any]:
        """The tensor where it lies, without a copy; valid until its slot is written again."""
        if placed.arena_bytes > len(self._memory):
            self._map_again()
        return np.ndarray(placed.shape, placed.dtype, self._memory, placed.offset)

    def _map_again(self) -> None:
        # A new mapping, not mmap.resize: that one refuses while any array still looks at the old mapping.
        self._memory = mmap.mmap(self.fd, os.fstat(self.fd).st_size)


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Placed).decode
