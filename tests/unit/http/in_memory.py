"""A client of one ``HttpConnection`` without a socket: a transport in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hostile.responses import Response, read_responses
from setpoint.core import Limits
from setpoint.node.http import Exchange, HttpConnection, HttpServer
from setpoint.node.http.http2_connection import Http2Connection
from setpoint.node.http.straight_body import StraightBody
from setpoint.testing import SimulatedClock

HIGH_WATER_BYTES = 64 * 1024


class MemoryTransport(asyncio.Transport):
    """What asyncio's and uvloop's transports promise: ordered callbacks, water marks, a close that flushes first."""

    def __init__(self, connection: HttpConnection, client_reads: bool = True) -> None:
        super().__init__()
        self.connection: HttpConnection | Http2Connection | StraightBody | None = connection
        self.client_reads = client_reads
        self.received = bytearray()  # what the client has read
        self.buffered = bytearray()  # what it has not
        self.reading = True
        self.half_closed = False
        self.closing = False
        self.lost = False
        self._writing_paused = False

    def write(self, data: Any) -> None:
        assert not self.closing, "written to a closing transport"
        assert not self.half_closed, "written behind write_eof"
        if self.client_reads:
            self.received += data
            return
        self.buffered += data
        if len(self.buffered) > HIGH_WATER_BYTES and not self._writing_paused:
            self._writing_paused = True
            self.connection.pause_writing()

    def client_reads_now(self, size: int | None = None) -> None:
        size = len(self.buffered) if size is None else size
        self.received += self.buffered[:size]
        del self.buffered[:size]
        if self._writing_paused and len(self.buffered) <= HIGH_WATER_BYTES // 4:
            self._writing_paused = False
            self.connection.resume_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.buffered.clear()

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.connection = protocol

    def settle(self) -> None:
        """What the event loop does at the end of its turn."""
        if self.closing and not self.buffered and not self.lost:
            self.lost = True
            connection, self.connection = self.connection, None  # uvloop's transports forget their protocol, too
            connection.connection_lost(None)


class Client:
    """One client and the server it talks to.

    Attributes:
        exchanges: what the server's handler was given, in order.
        bugs: what the server reported as bugs.
    """

    def __init__(
        self,
        handler: Callable[[Exchange], None] | None = None,
        *,
        client_reads: bool = True,
        server: HttpServer | None = None,
        **limits: float,
    ) -> None:
        self.clock = SimulatedClock(1)
        self.exchanges: list[Exchange] = []
        self.bugs: list[BaseException] = []
        self._handler = handler or (lambda exchange: exchange.respond(200, b'"%b"' % exchange.path))
        self.server = server or HttpServer(self._handle, Limits(**limits), self.clock, self._bug)  # type: ignore[arg-type]
        self._soon: list[Callable[[], None]] = []
        self.server.soon = self._soon.append  # type: ignore[method-assign]
        self.connection = HttpConnection(self.server)
        self.transport = MemoryTransport(self.connection, client_reads)
        self._unread = bytearray()
        self.connection.connection_made(self.transport)
        self.transport.settle()

    def _handle(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._handler(exchange)

    def _bug(self, bug: BaseException) -> str:
        self.bugs.append(bug)
        return "reference"

    def send(self, *segments: bytes) -> Client:
        """Each segment arrives at once; what the connection does not read waits in the socket."""
        for segment in segments:
            self._unread += segment
            self.deliver()
            self.run()
        return self

    def deliver(self) -> None:
        """What waits in the socket is read, as far as the connection reads."""
        if self._unread and self.transport.reading and not self.transport.closing:
            protocol = self.transport.connection
            if isinstance(protocol, asyncio.BufferedProtocol):
                buffer = protocol.get_buffer(-1)
                size = min(len(buffer), len(self._unread))
                buffer[:size] = self._unread[:size]
                del self._unread[:size]
                protocol.buffer_updated(size)
            else:
                segment = bytes(self._unread)
                self._unread.clear()
                protocol.data_received(segment)
        self.transport.settle()

    def turn(self) -> bool:
        """The event loop comes round once; False when it had nothing to do."""
        due, self._soon[:] = self._soon[:], []
        for callback in due:
            callback()
        self.transport.settle()
        return bool(due)

    def run(self) -> Client:
        """The event loop comes round until it has nothing left to do."""
        while self.turn() or (self._unread and self.transport.reading and not self.transport.closing):
            self.deliver()
        return self

    def wait(self, seconds: float) -> Client:
        """Time passes, and the server looks at its connections."""
        self.clock.advance_ns(int(seconds * 1e9))
        if not self.transport.lost:
            protocol = self.transport.connection
            # While a large body comes past it, the server still watches the connection itself.
            watched = self.connection if isinstance(protocol, StraightBody) else protocol
            watched.check_time(self.clock.now_ns())
        self.transport.settle()
        return self

    def leave(self) -> Client:
        """The client closes its side."""
        if not self.transport.connection.eof_received():
            self.transport.close()
        self.transport.settle()
        return self

    def vanish(self) -> Client:
        """The connection breaks."""
        self.transport.abort()
        self.transport.settle()
        return self

    def responses(self, methods: Sequence[bytes] = ()) -> list[Response]:
        """All that was answered so far, strictly read."""
        return read_responses(bytes(self.transport.received), methods, self.closed)

    @property
    def closed(self) -> bool:
        """The server will say nothing more."""
        return self.transport.closing or self.transport.half_closed

    def statuses(self, methods: Sequence[bytes] = ()) -> list[int]:
        return [response.status for response in self.responses(methods)]


def request(path: str = "/", body: bytes | None = None, *headers: str, method: str = "", version: str = "1.1") -> bytes:
    """A well-formed request."""
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/{version}", "host: test", *headers]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


def chunked(path: str, *chunks: bytes, trailers: bytes = b"") -> bytes:
    """A request whose body is chunked."""
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


def keep(_: Exchange) -> None:
    """A handler that answers later: the test does, through ``client.exchanges``."""
