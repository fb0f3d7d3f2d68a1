"""Connections on an event loop, and what runs an operation's steps on them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator
from typing import TypeVar

from setpoint.client.exchange import Address, Pause, Reply, Send, Steps, TransportFailure
from setpoint.client.http1 import Malformed, ReplyReader, request_parts
from setpoint.core import Clock, DeadlineExceeded, NotReady

T = TypeVar("T")
_READ_BYTES = 256 * 1024
_IDLE_LIMIT_S = 30.0
_CONNECTION_LIMIT = 64
"""Requests at once on one client; more wait for their turn, in their own time. No more connections are kept idle:
streams that have begun hold no turn, so many may end together."""
_NS = 1e-9


class AsyncConnection:
    """One connection that carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reader = ReplyReader()
        self.idle_since_s = 0.0

    async def exchange(self, send: Send, address: Address) -> None:
        """Send a request and read its answer, or of a streamed one that went well the head.

        Raises:
            OSError, Malformed: as the network or the server had it.
        """
        self.reader = ReplyReader()
        broken: OSError | None = None
        try:
            self._writer.writelines(request_parts(send.request, address))
            await self._writer.drain()
        except OSError as error:
            broken = error  # a server that refuses a body answers before it has read all of it
        reader = self.reader
        while not reader.complete and not (send.streamed and reader.head_complete and reader.status == 200):
            received = await self.receive()
            if received:
                reader.feed(received)
            elif reader.end():
                return
            else:
                raise broken or ConnectionResetError("the connection ended before the answer")

    async def receive(self) -> bytes:
        """What comes next; empty at the end of the connection."""
        return await self._reader.read(_READ_BYTES)

    @property
    def is_fresh(self) -> bool:
        """Whether the other side still has it open, as far as is known."""
        old = time.monotonic() - self.idle_since_s > _IDLE_LIMIT_S
        return not (old or self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        """Close it at once."""
        self._writer.close()

    async def closed(self) -> None:
        """Wait until it is."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # it was broken; so it is closed


class AsyncConnections:
    """The connections to one node, of one event loop."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, clock: Clock) -> None:
        self._address = address
        self._context = context
        self._clock = clock
        self._idle: list[AsyncConnection] = []
        self._turns = asyncio.Semaphore(_CONNECTION_LIMIT)
        self._closed = False

    async def run(self, steps: Steps[T], opened: list[AsyncConnection] | None = None) -> T:
        """As ``blocking.Connections.run``."""
        answer: Reply | None = None
        failure: TransportFailure | None = None
        try:
            while True:
                step = steps.send(answer) if failure is None else steps.throw(failure)
                answer = failure = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    continue
                try:
                    answer = await self._reply(step, opened)
                except TransportFailure as problem:
                    failure = problem
        except StopIteration as end:
            result: T = end.value
            return result

    async def stream(self, steps: Steps[Reply], pause_limit_s: float) -> AsyncGenerator[bytes]:
        """As ``blocking.Connections.stream``."""
        opened: list[AsyncConnection] = []
        await self.run(steps, opened)
        (connection,) = opened
        reader = connection.reader
        try:
            while True:
                for chunk in reader.take_chunks():
                    yield chunk
                if reader.complete:
                    return
                async with asyncio.timeout(pause_limit_s):
                    received = await connection.receive()
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

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.closed()

    async def _reply(self, send: Send, opened: list[AsyncConnection] | None) -> Reply:
        left_s = (send.deadline_ns - self._clock.now_ns()) * _NS
        connection: AsyncConnection | None = None
        try:
            async with asyncio.timeout(max(left_s, 0)), self._turns:
                connection = self._idle_connection() or await self._connect()
                try:
                    await connection.exchange(send, self._address)
                except (OSError, Malformed) as error:
                    if isinstance(error, TimeoutError):
                        raise
                    message = f"{self._address} gave no answer, and may have carried the request out: {error}"
                    raise TransportFailure(message, sent=True) from error
        except TimeoutError as error:
            self._drop(connection)
            message = f"no answer from {self._address} within the time that the request had"
            raise TransportFailure(message, sent=connection is not None, timed_out=True) from error
        except BaseException:  # a task that was cancelled in the middle: nothing can follow on this connection
            self._drop(connection)
            raise
        reader = connection.reader
        if send.streamed and opened is not None and reader.status == 200:
            opened.append(connection)
            return Reply(reader.status, reader.headers, bytearray())
        self._give_back(connection)
        return reader.reply()

    async def _connect(self) -> AsyncConnection:
        address = self._address
        try:
            name = address.host if self._context is not None else None
            return AsyncConnection(
                *await asyncio.open_connection(
                    address.host, address.port, ssl=self._context, server_hostname=name, limit=4 * _READ_BYTES
                )
            )
        except TimeoutError:
            raise
        except OSError as error:
            certificate = isinstance(error, ssl.SSLError)
            raise TransportFailure(f"nothing answers at {address}: {error}", sent=certificate) from error

    def _idle_connection(self) -> AsyncConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: AsyncConnection) -> None:
        if connection.reader.keep_alive and not self._closed and len(self._idle) < _CONNECTION_LIMIT:
            connection.idle_since_s = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def _drop(self, connection: AsyncConnection | None) -> None:
        if connection is not None:
            connection.close()
