"""The node's side of each transport, behind one call: `submit(ticket, rows)`, answered by `on_answer(ticket, result)`.

`rows` are the requests as they were decoded, one array each; making one batch of them belongs to the transport,
because shared memory needs no other copy than that one.
Everything runs on the event loop's thread; no transport uses a task or a future except `Inline`, where the executor
does. At most `SLOTS` batches are in flight and the results are consumed before their slot is used again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Protocol

import numpy as np
from arena import Arena, Placed, decode, encode
from numpy.typing import NDArray
from worker import LENGTH, SLOTS, Control, compute

Array = NDArray[np.float32]
Rows = list[Array]
OnAnswer = Callable[[int, Array], None]


class Transport(Protocol):
    """What the benchmark drives; `pid` is the worker's, or None when there is no worker process."""

    pid: int | None
    on_answer: OnAnswer

    def submit(self, ticket: int, rows: Rows) -> None: ...
    def close(self) -> None: ...


def start_worker(kind: str, *fds: int) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("worker.py")
    return subprocess.Popen([sys.executable, str(script), kind, *map(str, fds)], pass_fds=fds, stdin=subprocess.PIPE)


class _Shared:
    """Two arenas and a worker: what the shared-memory transports have in common."""

    on_answer: OnAnswer

    def __init__(self, kind: str, loop: asyncio.AbstractEventLoop, ours: int, *theirs: int) -> None:
        self.requests, self.answers = Arena.create("requests"), Arena.create("answers")
        self._loop, self._ours = loop, ours
        self._process = start_worker(kind, self.requests.fd, self.answers.fd, *theirs)
        self.pid: int | None = self._process.pid

    def _answered(self, message: bytes | memoryview) -> None:
        placed = decode(message)
        self.on_answer(placed.ticket, self.answers.view(placed))

    def _place(self, ticket: int, rows: Rows) -> bytes:
        return encode(self.requests.write(ticket, ticket % SLOTS, rows))

    def _end(self) -> None:
        self._loop.remove_reader(self._ours)
        self._process.wait(timeout=5)
        os.close(self.requests.fd)
        os.close(self.answers.fd)


class SharedSeqpacket(_Shared):
    """(a) Arenas; one datagram per message, so no framing and no partial reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with theirs:
            super().__init__("seqpacket", loop, self._socket.fileno(), theirs.fileno())
        loop.add_reader(self._socket.fileno(), self._readable)

    def submit(self, ticket: int, rows: Rows) -> None:
        self._socket.send(self._place(ticket, rows))

    def _readable(self) -> None:
        self._answered(self._socket.recv(65536))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._end()
        self._socket.close()


class SharedStream(_Shared):
    """(b) The same over a byte stream: length prefixes, and a buffer for what arrives in pieces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._received = b""
        with theirs:
            super().__init__("stream", loop, self._socket.fileno(), theirs.fileno())
        loop.add_reader(self._socket.fileno(), self._readable)

    def submit(self, ticket: int, rows: Rows) -> None:
        message = self._place(ticket, rows)
        self._socket.sendall(LENGTH.pack(len(message)) + message)  # a few dozen bytes: the buffer always has room

    def _readable(self) -> None:
        self._received += self._socket.recv(65536)
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message, self._received = self._received[LENGTH.size : end], self._received[end:]
            self._answered(message)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._end()
        self._socket.close()


class SharedEventfd(_Shared):
    """(b') Messages in shared memory too; two eventfds wake the sides. Does not notice that the other side has died."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asked, self._answered_fd = os.eventfd(0, os.EFD_SEMAPHORE), os.eventfd(0, os.EFD_NONBLOCK)
        self._control_arena = Arena.create("control")
        self._control = Control(self._control_arena.fd)
        self._next = self._last = 0
        theirs = (self._control_arena.fd, self._asked, self._answered_fd)
        super().__init__("eventfd", loop, self._answered_fd, *theirs)
        loop.add_reader(self._answered_fd, self._readable)

    def submit(self, ticket: int, rows: Rows) -> None:
        self._control.put(self._last % SLOTS, self._place(ticket, rows))
        self._last += 1
        os.eventfd_write(self._asked, 1)

    def _readable(self) -> None:
        for _ in range(os.eventfd_read(self._answered_fd)):
            message = self._control.take(self._next % SLOTS)
            self._next += 1
            self._answered(message)

    def close(self) -> None:
        self._control.put(self._last % SLOTS, b"")
        os.eventfd_write(self._asked, 1)
        self._end()
        for fd in (self._asked, self._answered_fd, self._control_arena.fd):
            os.close(fd)


class PickledPipe:
    """(c) `multiprocessing.Pipe`, arrays pickled; sending a large batch blocks the loop until it has been read."""

    on_answer: OnAnswer

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = start_worker("pipe", theirs.fileno())
        self.pid: int | None = self._process.pid
        self._loop = loop
        loop.add_reader(self._connection.fileno(), self._readable)
        os.set_blocking(self._connection.fileno(), True)  # uvloop clears it, and Connection cannot do with a part

    def submit(self, ticket: int, rows: Rows) -> None:
        self._connection.send((ticket, np.concatenate(rows)))

    def _readable(self) -> None:
        self.on_answer(*self._connection.recv())

    def close(self) -> None:
        self._loop.remove_reader(self._connection.fileno())
        self._connection.close()
        self._process.wait(timeout=5)


class RawStream(asyncio.Protocol):
    """(d) Header and tensor bytes through a socket: no shared memory, no pickle."""

    on_answer: OnAnswer

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = start_worker("raw", theirs.fileno())
        self.pid: int | None = self._process.pid
        self._received = bytearray()
        self._connecting = loop.create_task(loop.create_unix_connection(lambda: self, sock=ours))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]  # a socket's is always writable

    def submit(self, ticket: int, rows: Rows) -> None:
        shape = (sum(len(one) for one in rows), *rows[0].shape[1:])
        head = encode(Placed(ticket, 0, 0, rows[0].dtype.str, shape))
        self._transport.writelines([LENGTH.pack(len(head)) + head, *(one.data.cast("B") for one in rows)])

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            start = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < start:
                return
            placed = decode(bytes(self._received[LENGTH.size : start]))
            end = start + np.dtype(placed.dtype).itemsize * int(np.prod(placed.shape))
            if len(self._received) < end:
                return
            result = np.frombuffer(bytes(self._received[start:end]), placed.dtype).reshape(placed.shape)
            del self._received[:end]
            self.on_answer(placed.ticket, result)

    def close(self) -> None:
        self._transport.close()
        self._process.terminate()  # the loop closes the socket only after this call
        self._process.wait(timeout=5)


class Inline:
    """(e) No worker process: a thread of the node runs the batch."""

    on_answer: OnAnswer
    pid: int | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(max_workers=1)

    def submit(self, ticket: int, rows: Rows) -> None:
        future = self._loop.run_in_executor(self._executor, lambda: compute(np.concatenate(rows)))
        future.add_done_callback(lambda done: self.on_answer(ticket, done.result()))

    def close(self) -> None:
        self._executor.shutdown()


TRANSPORTS: dict[str, Callable[[asyncio.AbstractEventLoop], Transport]] = {
    "a  memfd + SEQPACKET": SharedSeqpacket,
    "b  memfd + STREAM": SharedStream,
    "b' memfd + eventfd": SharedEventfd,
    "c  Pipe, pickled": PickledPipe,
    "d  STREAM, raw bytes": RawStream,
    "e  thread, inline": Inline,
}
