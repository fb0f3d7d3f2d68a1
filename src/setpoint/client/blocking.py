"""Blocking sockets: connections that are kept and reused, and what runs an operation's steps on them.

No event loop is needed or disturbed, so it works where one runs already: in a notebook.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Generator
from typing import TypeVar

from setpoint.client.exchange import Address, Pause, Reply, Send, Steps, TransportFailure
from setpoint.client.http1 import Malformed, ReplyReader, request_parts
from setpoint.core import Clock, DeadlineExceeded, NotReady

T = TypeVar("T")
_READ_BYTES = 256 * 1024
_IDLE_LIMIT_S = 30.0
"""A connection that was not used for so long is not used again: servers close theirs, ours after 75 s."""
_IDLE_LIMIT_CONNECTIONS = 16
_NS = 1e-9


class Connection:
    """One connection that carries one request at a time."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, timeout_s: float) -> None:
        """Connect.

        Raises:
            OSError: nobody answers in time, or not in TLS.
        """
        self._socket = socket.create_connection((address.host, address.port), timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._socket = context.wrap_socket(self._socket, server_hostname=address.host)
        except BaseException:
            self._socket.close()
            raise
        self.idle_since_s = 0.0
        self.reader = ReplyReader()

    def exchange(self, send: Send, address: Address, clock: Clock) -> None:
        """Send a request and read its answer, or of a streamed one that went well the head.

        Raises:
            OSError, Malformed: as the network or the server had it.
        """
        self.reader = ReplyReader()
        try:
            for part in request_parts(send.request, address):
                self._socket.settimeout(_left_s(send.deadline_ns, clock))
                self._socket.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server that refuses a body answers before it has read all of it: the answer may be there
        reader = self.reader
        while not reader.complete and not (send.streamed and reader.head_complete and reader.status == 200):
            received = self.receive(send.deadline_ns, clock)
            if not received:
                if not reader.end():
                    raise ConnectionResetError("the connection ended before the answer")
                break
            reader.feed(received)

    def receive(self, deadline_ns: int, clock: Clock) -> bytes:
        """What comes next; empty at the end of the connection."""
        self._socket.settimeout(_left_s(deadline_ns, clock))
        return self._socket.recv(_READ_BYTES)

    def is_fresh(self, now_s: float) -> bool:
        """Whether the other side still has it open, as far as can be known: nothing has come since the last answer."""
        if now_s - self.idle_since_s > _IDLE_LIMIT_S:
            return False
        poll = select.poll()  # not select(): it knows no descriptor above 1023
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _left_s(deadline_ns: int, clock: Clock) -> float:
    left_s = (deadline_ns - clock.now_ns()) * _NS
    if left_s <= 0:
        raise TimeoutError
    return left_s


class Connections:
    """The connections to one node. Safe to share between threads: each request has one to itself."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, clock: Clock) -> None:
        self._address = address
        self._context = context
        self._clock = clock
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, steps: Steps[T], opened: list[Connection] | None = None) -> T:
        """Carry out an operation.

        Args:
            steps: of the operation.
            opened: gets the connection of a stream that began.

        Raises:
            SetpointError: as the operation ended.
        """
        answer: Reply | None = None
        failure: TransportFailure | None = None
        try:
            while True:
                step = steps.send(answer) if failure is None else steps.throw(failure)
                answer = failure = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    continue
                try:
                    answer = self._reply(step, opened)
                except TransportFailure as problem:
                    failure = problem
        except StopIteration as end:
            result: T = end.value
            return result

    def stream(self, steps: Steps[Reply], pause_limit_s: float) -> Generator[bytes]:
        """Carry out an operation that begins a stream, and yield the pieces of its body as they come.

        Args:
            steps: of the operation.
            pause_limit_s: how long the next piece may take.

        Raises:
            SetpointError: as the operation ended; ``DeadlineExceeded``, ``NotReady`` where the stream stops or breaks.
        """
        opened: list[Connection] = []
        self.run(steps, opened)
        (connection,) = opened
        reader = connection.reader
        try:
            while True:
                yield from reader.take_chunks()
                if reader.complete:
                    return
                received = connection.receive(self._clock.now_ns() + int(pause_limit_s / _NS), self._clock)
                if received:
                    reader.feed(received)
                elif not reader.end():
                    raise ConnectionResetError("it ended in the middle")
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._address} sent nothing more for {pause_limit_s:g} s") from error
        except (OSError, Malformed) as error:
            raise NotReady(f"the stream from {self._address} broke off: {error}") from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _reply(self, send: Send, opened: list[Connection] | None) -> Reply:
        connection = self._idle_connection() or self._connect(send)
        try:
            connection.exchange(send, self._address, self._clock)
        except TimeoutError as error:
            connection.close()
            message = f"no answer from {self._address} within the time that the request had"
            raise TransportFailure(message, sent=True, timed_out=True) from error
        except (OSError, Malformed) as error:
            connection.close()
            message = f"{self._address} gave no answer, and may have carried the request out: {error}"
            raise TransportFailure(message, sent=True) from error
        except BaseException:  # Ctrl-C in the middle: nothing can follow on this connection
            connection.close()
            raise
        reader = connection.reader
        if send.streamed and opened is not None and reader.status == 200:
            opened.append(connection)
            return Reply(reader.status, reader.headers, bytearray())
        self._give_back(connection)
        return reader.reply()

    def _connect(self, send: Send) -> Connection:
        try:
            return Connection(self._address, self._context, _left_s(send.deadline_ns, self._clock))
        except TimeoutError as error:
            raise TransportFailure(
                f"{self._address} could not be reached in time", sent=False, timed_out=True
            ) from error
        except OSError as error:
            certificate = isinstance(error, ssl.SSLError)  # it will not be another one in a moment
            raise TransportFailure(f"nothing answers at {self._address}: {error}", sent=certificate) from error

    def _idle_connection(self) -> Connection | None:
        now_s = time.monotonic()
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()  # the last used: the others grow old and are let go
            if connection.is_fresh(now_s):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection.reader.keep_alive and not self._closed and len(self._idle) < _IDLE_LIMIT_CONNECTIONS:
                connection.idle_since_s = time.monotonic()
                self._idle.append(connection)
                return
        connection.close()
