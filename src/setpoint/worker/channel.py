"""One end of the socket pair between a node and a worker: whole packets, into memory that is used again."""

from __future__ import annotations

import os
import socket
import time

from setpoint.worker.messages import PACKET_LIMIT_BYTES


class Channel:
    """A ``SOCK_SEQPACKET`` end. A packet that is returned is valid until the next one is received."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._view = memoryview(bytearray(PACKET_LIMIT_BYTES))

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """A node's end, non-blocking, and the plain socket for the worker to inherit."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_LIMIT_BYTES)
        ours.setblocking(False)
        return cls(ours), theirs

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def send(self, packet: bytes) -> None:
        """Send one packet.

        Raises:
            BrokenPipeError, ConnectionResetError: the other side is gone.
            BlockingIOError: a non-blocking end's buffer is full.
        """
        self._socket.send(packet)

    def receive(self) -> memoryview:
        """The next packet, waiting for it; empty when the other side is gone."""
        return self._view[: self._socket.recv_into(self._view)]

    def receive_now(self) -> memoryview | None:
        """The next packet if it is here; empty when the other side is gone; None when there is none."""
        try:
            return self._view[: self._socket.recv_into(self._view, 0, socket.MSG_DONTWAIT)]
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionResetError:
            return self._view[:0]

    def receive_soon(self, patience_ns: int) -> memoryview | None:
        """Look for the next packet again and again, for at most that long.

        Being woken costs 30 to 60 µs where processors rest in between, which is more than a small model's run. Who
        knows that the packet comes sooner than that is better off looking.
        """
        end_ns = time.monotonic_ns() + patience_ns
        while (packet := self.receive_now()) is None and time.monotonic_ns() < end_ns:
            os.sched_yield()  # whoever else wants this core has it first; it may be the one we wait for
        return packet

    def close(self) -> None:
        """Close this end; the other side sees it."""
        self._socket.close()
