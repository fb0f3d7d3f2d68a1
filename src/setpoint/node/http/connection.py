"""One client connection: HTTP/1.1 with keep-alive and pipelining, every limit and time-out with a number.

Why not a ready ASGI server: a request here costs no task, no scope dictionary and no event; a refusal is written before
the parser returns; a client that leaves cancels its work at once; slow senders and slow readers are timed out. The
parser is llhttp (through httptools), which is Node.js's. ``docs/adr/0002-http-server.md`` has the figures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, cast

import httptools

from setpoint.core import RequestError, RequestTimeout, RequestTooLarge, SetpointError
from setpoint.node.http.exchange import Exchange
from setpoint.node.http.head import CONTINUE
from setpoint.wire import body_of, status_of

if TYPE_CHECKING:
    from setpoint.node.http.server import HttpServer

_LINGER_S = 1.0
"""How long a refused client may go on sending before its connection is closed."""


class Phase(Enum):
    """What the connection waits for; each phase has its time-out."""

    IDLE = "idle"
    HEADERS = "headers"
    BODY = "body"


class HttpConnection(asyncio.Protocol):
    """Reads requests, hands them to the server's handler, writes answers in the order of the requests."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._phase = Phase.IDLE
        self._phase_since_ns = 0
        self._received_ns = 0
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._reading: Exchange | None = None
        # In flight, in order of arrival: the head of this queue has the turn to write.
        self._exchanges: deque[Exchange] = deque()
        # Read but not yet handled: beyond the pipeline limit.
        self._backlog: deque[Exchange] = deque()
        self._refusal: RequestError | None = None
        # Nothing more will be read: the connection closes behind its last answer.
        self._ending = False
        self._lingering = False
        self._write_paused_since_ns = 0
        self._read_paused = False

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._received_ns = self._phase_since_ns = self._server.now_ns()
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or we closed: whatever it still waited for is cancelled."""
        self._ending = True
        self._server.closed(self)
        for exchange in self._exchanges:
            self._server.ended(exchange)
            if exchange.on_disconnect is not None and not exchange.complete:
                exchange.on_disconnect()
        self._exchanges.clear()
        self._backlog.clear()

    def eof_received(self) -> bool:
        """The client closed its side: it has left, and its work is cancelled.

        HTTP allows a half-closed client to wait for its answer, but nearly none does: this is how clients that gave up
        look, and computing for them is what other servers are blamed for.
        """
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly: stop taking its requests until it catches up."""
        self._write_paused_since_ns = self._server.now_ns()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_paused_since_ns = 0
        self._resume_reading()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._ending:
            return
        # One reading of the clock for all that this packet begins or completes.
        self._received_ns = self._server.now_ns()
        if self._phase is not Phase.BODY:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._not_reused()  # we speak no other protocol: the request is answered as plain HTTP, then we close
        except httptools.HttpParserError as error:
            self._refuse(RequestError(f"not a valid HTTP/1.1 request: {error}"))
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._phase is Phase.HEADERS and self._head_bytes > self._limits.header_limit_bytes:
            self._refuse(_header_too_large(self._limits.header_limit_bytes))

    # --- httptools' side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """First byte of a request."""
        self._reading = Exchange(self)
        self._phase = Phase.HEADERS
        self._phase_since_ns = self._received_ns

    def on_url(self, url: bytes) -> None:
        """Some of the request target."""
        exchange = self._reading
        if exchange is not None:
            exchange.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; or a trailer, which nobody here needs."""
        exchange = self._reading
        if exchange is not None and self._phase is Phase.HEADERS:
            exchange.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Decide whether the body may come."""
        exchange = self._reading
        if exchange is None:
            return
        parser = self._parser
        exchange.method = parser.get_method()
        exchange.keep_alive = parser.should_keep_alive()
        headers = exchange.headers
        if not exchange.keep_alive or b"connection" in headers:  # HTTP/1.0 keeps alive only where it says so
            exchange.http_10 = parser.get_http_version() == "1.0"
        if b"?" in exchange.path:
            exchange.path, _, exchange.query = exchange.path.partition(b"?")
        self._phase = Phase.BODY
        self._phase_since_ns = self._received_ns
        declared = headers.get(b"content-length")
        if self._head_bytes > self._limits.header_limit_bytes < exchange.head_bytes:
            self._refusal = _header_too_large(self._limits.header_limit_bytes)
        elif declared is not None and int(declared) > self._limits.body_limit_bytes:
            self._refusal = _body_too_large(self._limits.body_limit_bytes)
        elif b"expect" in headers and not exchange.http_10 and not self._exchanges:
            self.write(CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        """Some of the body."""
        self._body_bytes += len(chunk)
        if self._body_bytes > self._limits.body_limit_bytes:
            self._refusal = _body_too_large(self._limits.body_limit_bytes)
            self._body.clear()
        elif self._refusal is None:
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        """A whole request is here."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._refusal is not None:
            return
        body = self._body
        if body:
            exchange.body = body[0] if len(body) == 1 else b"".join(body)
            self._body = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._phase = Phase.IDLE
        if len(self._exchanges) >= self._limits.pipeline_limit or self._backlog:
            self._backlog.append(exchange)
            self._pause_reading()
        else:
            self._handle(exchange)

    # --- the exchanges' side -------------------------------------------------------------------------------------

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection stays open behind this answer."""
        if not exchange.keep_alive:
            return False
        if self._backlog or self._exchanges[-1] is not exchange:
            return True  # requests behind it were accepted and will be answered
        return not self._ending and not self._server.draining

    def is_turn_of(self, exchange: Exchange) -> bool:
        """Whether every earlier request was answered whole."""
        return bool(self._exchanges) and self._exchanges[0] is exchange

    def write(self, chunk: bytes) -> None:
        """Send bytes; nowhere, if the client has left."""
        if not self._transport.is_closing():
            self._transport.write(chunk)

    def count_response(self, status: int) -> None:
        """Tell the server's counters."""
        self._server.responses[status] += 1

    def finished(self) -> None:
        """An exchange was answered whole: give the turn to the next."""
        exchanges = self._exchanges
        if len(exchanges) == 1 and not self._backlog and exchanges[0].complete:
            # What nearly always happens, without the loops.
            done = exchanges[0]
            keeps_alive = self.keeps_alive(done)
            exchanges.popleft()
            self._server.ended(done)
            self._phase_since_ns = self._received_ns
            if not keeps_alive:
                self._close()
            return
        while exchanges and exchanges[0].complete:
            done = exchanges[0]
            keeps_alive = self.keeps_alive(done)
            exchanges.popleft()
            self._server.ended(done)
            if not keeps_alive:
                self._close()
                return
            if exchanges and (pending := exchanges[0].take_pending()):
                self.write(pending)
        while self._backlog and len(exchanges) < self._limits.pipeline_limit:
            self._handle(self._backlog.popleft())
        if self._read_paused and not self._backlog:
            self._resume_reading()

    # --- the server's side ---------------------------------------------------------------------------------------

    def check_time(self, now_ns: int) -> None:
        """Called about once a second: end what takes too long."""
        waited_s = (now_ns - self._phase_since_ns) / 1e9
        if self._write_paused_since_ns:
            if (now_ns - self._write_paused_since_ns) / 1e9 > self._limits.write_timeout_s:
                self._transport.abort()
        elif self._read_paused:
            return
        elif self._phase is Phase.HEADERS and waited_s > self._limits.header_timeout_s:
            self._refuse(RequestTimeout(f"the request's headers took longer than {self._limits.header_timeout_s:g} s"))
        elif self._phase is Phase.BODY and waited_s > self._limits.body_timeout_s:
            self._refuse(RequestTimeout(f"the request's body took longer than {self._limits.body_timeout_s:g} s"))
        elif self._phase is Phase.IDLE and not self._exchanges and waited_s > self._idle_limit_s:
            self._transport.close()

    def refuse_and_close(self, error: SetpointError) -> None:
        """Answer with an error behind whatever is in flight, and close."""
        self._ending = True
        exchange = Exchange(self)
        exchange.keep_alive = False
        self._begin(exchange)
        exchange.respond(status_of(error), body_of(error))

    @property
    def _idle_limit_s(self) -> float:
        return _LINGER_S if self._lingering else self._limits.idle_timeout_s

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        if not self._exchanges:
            self._close()

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    # --- inside --------------------------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        self._server.began(exchange)

    def _handle(self, exchange: Exchange) -> None:
        self._begin(exchange)
        self._server.handle(exchange)

    def _refuse(self, error: RequestError) -> None:
        if self._ending:
            return
        self._reading = None
        self._refusal = None
        self._body.clear()
        self._phase = Phase.IDLE
        self._lingering = True
        self.refuse_and_close(error)

    def _not_reused(self) -> None:
        self._ending = True
        if self._exchanges:
            self._exchanges[-1].keep_alive = False
        else:
            self._close()

    def _close(self) -> None:
        self._ending = True
        if self._lingering and self._transport.can_write_eof():
            # Closing with its body unread would reset the connection and could take the refusal from the client: say
            # that we are done, and drop what it still sends, for a moment.
            self._phase_since_ns = self._server.now_ns()
            self._transport.write_eof()
            self._resume_reading()
        else:
            self._transport.close()

    def _pause_reading(self) -> None:
        if not self._read_paused and not self._transport.is_closing():
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused and not self._backlog and not self._write_paused_since_ns:
            self._read_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


def _body_too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request's body is larger than the limit of {limit_bytes} bytes (--max-body)")


def _header_too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request's headers are larger than the limit of {limit_bytes} bytes", header=True)
