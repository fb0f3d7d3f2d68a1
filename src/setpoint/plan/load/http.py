"""A lean HTTP/1.1 client for one address: kept-alive connections, one request on each at a time, no tasks.

Requests are bytes that were made before the run. A general client costs some 200 µs of processor a request in
building, headers, pools and tasks, and would be what is measured; this one costs a tenth of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import httptools

from setpoint.plan.load.transport import Done

_IDLE = -1
_OPENING_LIMIT = 32
"""Connections being opened at once: more would overrun the backlog of many a server, and cost them a second each."""


class HttpTransport:
    """A pool of connections; see ``transport.Transport``.

    A request takes an idle connection. Without one it waits for whichever comes first, one that falls idle or a new
    one: not for a new one of its own, since a server that is behind leaves those waiting for a second or more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: tuple[str, int],
        requests: tuple[bytes, ...],
        limit: int,
        done: Done,
    ) -> None:
        self.opened = 0
        self._loop = loop
        self._address = address
        self._requests = requests
        self._limit = limit
        self._done = done
        self._idle: list[_Connection] = []
        self._busy: dict[int, _Connection | None] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._busy)

    def send(self, token: int, request: int) -> bool:
        """Write the request to an idle connection, or let it wait for one."""
        if len(self._busy) >= self._limit:
            return False
        payload = self._requests[request]
        if self._idle:
            connection = self._idle.pop()  # the one used last: its server side is awake, and others may time out
            self._busy[token] = connection
            connection.send(token, payload)
        else:
            self._busy[token] = None
            self._waiting.append((token, payload))
            self._open_more()
        return True

    def oldest(self) -> int | None:
        """The first of those in flight: dictionaries keep their order."""
        return next(iter(self._busy), None)

    def abandon(self, token: int) -> None:
        """Drop the connection that waits for this answer: what may still come belongs to no other request."""
        connection = self._busy.pop(token)
        if connection is not None:
            connection.drop()

    def close(self) -> None:
        """Drop all connections."""
        for task in self._opening:
            task.cancel()
        for connection in (*self._busy.values(), *self._idle):
            if connection is not None:
                connection.drop()
        self._busy.clear()
        self._idle.clear()
        self._waiting.clear()

    def _open_more(self) -> None:
        if len(self._opening) < min(len(self._waiting), _OPENING_LIMIT):
            task = self._loop.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._open_more()

    async def _open(self) -> None:
        self.opened += 1
        try:
            await self._loop.create_connection(lambda: _Connection(self), *self._address)
        except OSError as error:
            while self._waiting:
                token, _ = self._waiting.popleft()
                if self._busy.pop(token, self) is not self:  # not abandoned meanwhile
                    self._done(token, 0, str(error).encode(), "connect")
                    break

    # --- called by connections -----------------------------------------------------------------------------------

    def free(self, connection: _Connection) -> None:
        """A connection can take a request."""
        while self._waiting:
            token, payload = self._waiting.popleft()
            if token in self._busy:  # not abandoned meanwhile
                self._busy[token] = connection
                connection.send(token, payload)
                return
        self._idle.append(connection)

    def finished(self, connection: _Connection, status: int, body: bytes, failure: str) -> None:
        """A connection has its answer, or will not get one."""
        token, connection.token = connection.token, _IDLE
        del self._busy[token]
        if connection.usable:
            self.free(connection)
        self._done(token, status, body, failure)

    def lost(self, connection: _Connection) -> None:
        """A connection without a request was closed."""
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection; also what httptools' parser calls back."""

    __slots__ = (
        "_body",
        "_complete",
        "_headers_ended",
        "_keep",
        "_parser",
        "_pool",
        "_sized",
        "_transport",
        "token",
        "usable",
    )

    def __init__(self, pool: HttpTransport) -> None:
        self.token = _IDLE
        self.usable = False
        self._pool = pool
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._complete = 0
        self._sized = self._headers_ended = self._keep = False

    def send(self, token: int, payload: bytes) -> None:
        """Write a request."""
        self.token = token
        self._transport.write(payload)

    def drop(self) -> None:
        """Close at once and report nothing."""
        self.token = _IDLE
        self.usable = False
        self._transport.abort()

    # --- the event loop's calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a request."""
        self._transport = transport
        self.usable = True
        self._pool.free(self)

    def data_received(self, data: bytes) -> None:
        """Parse; finish when the answer is complete."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("garbage", f"not HTTP/1.1: {error}")
            return
        if self._complete:
            self._finish(self._complete == 1 and self._keep)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection is the end of an answer that stated no length; otherwise it is an error."""
        self.usable = False
        if self.token == _IDLE:
            self._pool.lost(self)
        elif exc is None and self._headers_ended and not self._sized:
            self._finish(keep=False)
        else:
            kind = "reset" if exc is not None else "closed"
            self._pool.finished(self, 0, str(exc or "the server closed the connection").encode(), kind)

    def _finish(self, keep: bool) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._body.clear()
        self._complete = 0
        self._sized = self._headers_ended = False
        self.usable = self.usable and keep
        if self.token == _IDLE:  # an answer that nobody asked for
            self.drop()
            self._pool.lost(self)
            return
        if not keep:
            self._transport.abort()
        self._pool.finished(self, status, body, "")

    def _fail(self, kind: str, detail: str) -> None:
        self.usable = False
        self._transport.abort()
        if self.token == _IDLE:
            self._pool.lost(self)
        else:
            self._pool.finished(self, 0, detail.encode(), kind)

    # --- the parser's calls --------------------------------------------------------------------------------------

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Notice whether the answer says where it ends."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        """The status is known from here on."""
        self._headers_ended = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole answer; interim ones (100 Continue) are not answers."""
        if self._parser.get_status_code() >= 200:
            self._complete += 1
            self._keep = self._parser.should_keep_alive()  # asked later, the parser has forgotten
