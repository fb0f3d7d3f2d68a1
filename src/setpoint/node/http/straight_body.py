"""Large bodies of declared length: from the socket straight into the memory that they are read from.

The parser hands each piece over as an object, copied twice on its way, and in the end the pieces must be joined: of an
image as 3 MB of JSON that was a tenth of the node's work. Here the kernel writes into the body itself.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Sequence
from typing import Protocol

LARGE_BYTES = 64 * 1024
"""A shorter rest comes in one or two packets."""
LARGEST_BYTES = 16 << 20
"""Memory is taken before the body came: not tens of megabytes for somebody who only says that they will come."""
_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.argtypes, _new_bytes.restype = (ctypes.c_void_p, ctypes.c_ssize_t), ctypes.py_object
_address_of = ctypes.pythonapi.PyBytes_AsString
_address_of.argtypes, _address_of.restype = (ctypes.py_object,), ctypes.c_void_p
_view_of = ctypes.pythonapi.PyMemoryView_FromMemory
_view_of.argtypes, _view_of.restype = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int), ctypes.py_object
_WRITABLE = 0x200  # PyBUF_WRITE


class Owner(Protocol):
    """The connection that the body belongs to."""

    def body_grew(self, received_bytes: int) -> None:
        """So much of it is here."""
        ...

    def body_complete(self, body: bytes) -> None:
        """All of it is here."""
        ...

    def eof_received(self) -> bool:
        """The client closed its side."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        ...

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """It caught up."""
        ...


class StraightBody(asyncio.BufferedProtocol):
    """The protocol of a connection while one body comes; afterwards the connection is that again."""

    def __init__(self, owner: Owner, declared_bytes: int, pieces: Sequence[bytes | bytearray]) -> None:
        """Begin behind the pieces that came with the head.

        Args:
            owner: whom to tell.
            declared_bytes: length of the body.
            pieces: its beginning, shorter than all of it.
        """
        self._owner = owner
        self._body, self._view = _unwritten(declared_bytes)
        self._received_bytes = 0
        for piece in pieces:
            end = self._received_bytes + len(piece)
            self._view[self._received_bytes : end] = piece
            self._received_bytes = end

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the rest of the body goes; nothing behind it is read."""
        return self._view[self._received_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes more are in it."""
        self._received_bytes += nbytes
        if self._received_bytes < len(self._body):
            self._owner.body_grew(self._received_bytes)
        else:
            self._owner.body_complete(self._body)

    def eof_received(self) -> bool:
        """The client closed its side."""
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """It caught up."""
        self._owner.resume_writing()


def _unwritten(length_bytes: int) -> tuple[bytes, memoryview]:
    """Bytes that were not written yet, and the view to write them, before anybody else sees them.

    C code makes bytes this way. A ``bytearray`` would be filled with zeros first, which costs as much as a copy.
    """
    body: bytes = _new_bytes(None, length_bytes)
    view: memoryview = _view_of(_address_of(body), length_bytes, _WRITABLE)
    return body, view
