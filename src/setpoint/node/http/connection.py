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

from setpoint.core import RequestError, RequestTimeout, RequestTooLarge, SetpointError, UnsupportedMedia
from setpoint.node.http.exchange import Exchange, respond_error
from setpoint.node.http.head import CONTINUE

if TYPE_CHECKING:
    from setpoint.node.http.server import HttpServer

_LINGER_S = 1.0
"""How long a refused client may go on sending before its connection is closed."""
_BACKLOG_LIMIT_REQUESTS = 1024
"""Requests of one connection that wait behind the pipeline limit: one read of a socket can bring ten thousand."""
_SMALL_CHUNK_BYTES = 1024
_SLASH = ord("/")
_OFFER_HEADERS = (b"connection", b"upgrade")


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
        self._body: list[bytes | bytearray] = []
        self._body_bytes = 0
        self._reading: Exchange | None = None
        # Its head offered another protocol: the parser stops behind it.
        self._offering: Exchange | None = None
        # In flight, in order of arrival: the head of this queue has the turn to write.
        self._exchanges: deque[Exchange] = deque()
        # Read but not yet handled: beyond the pipeline limit, or the client does not read its answers.
        self._backlog: deque[Exchange] = deque()
        self._advancing = False
        self._refusal: SetpointError | None = None
        # A refusal that must wait until the backlog was handled.
        self._last_word: SetpointError | None = None
        # Nothing more will be read: the connection closes behind its last answer.
        self._ending = False
        self._lingering = False
        # When everything was said; 0 before.
        self._closing_since_ns = 0
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
        left, self._exchanges = self._exchanges, deque()
        unhandled, self._backlog = len(self._backlog), deque()
        self._last_word = None
        self._server.ended(len(left) + unhandled)
        for exchange in left:
            if not exchange.complete:
                exchange.disconnected()
        del self._parser  # it holds this connection's methods: the two would wait for the garbage collector

    def eof_received(self) -> bool:
        """The client closed its side: it has left, and its work is cancelled.

        HTTP allows a half-closed client to wait for its answer, but nearly none does: this is how clients that gave up
        look, and computing for them is what other servers are blamed for.
        """
        self._ending = True
        self._closing_since_ns = self._server.now_ns()
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly: stop taking its requests until it catches up."""
        self._write_paused_since_ns = self._server.now_ns()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_paused_since_ns = 0
        self._advance()
        self._let_write()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._ending:
            return
        # One reading of the clock for all that this packet begins or completes.
        self._received_ns = self._server.now_ns()
        self._head_bytes += len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._decline_upgrade(memoryview(data)[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._refuse(self._server.bug(error.__context__ or error))
            return
        except httptools.HttpParserError as error:
            self._refuse(RequestError(f"not a valid HTTP/1.1 request: {error}"))
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._head_bytes > self._limits.header_limit_bytes and self._phase is not Phase.IDLE:
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
        self._phase = Phase.BODY
        self._phase_since_ns = self._received_ns
        if not exchange.keep_alive or b"connection" in headers:  # HTTP/1.1 keeps alive without saying so
            version = parser.get_http_version()
            exchange.http_10 = version == "1.0"
            if version not in ("1.0", "1.1"):
                self._refusal = RequestError(f"expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}")
                return
            if parser.should_upgrade() and exchange.method != b"CONNECT":
                self._offering, self._reading = exchange, None
                return
        if exchange.path[0] != _SLASH:
            _resolve_target(exchange)
        if b"?" in exchange.path:
            exchange.path, _, exchange.query = exchange.path.partition(b"?")
        declared = headers.get(b"content-length")
        if self._head_bytes > self._limits.header_limit_bytes < exchange.head_bytes:
            self._refusal = _header_too_large(self._limits.header_limit_bytes)
        elif declared is not None:
            if int(declared) > self._limits.body_limit_bytes:
                self._refusal = _body_too_large(self._limits.body_limit_bytes)
        elif b"transfer-encoding" in headers and headers[b"transfer-encoding"].strip().lower() != b"chunked":
            coding = headers[b"transfer-encoding"].decode("latin-1")[:40]
            self._refusal = UnsupportedMedia(f"transfer-encoding {coding!r} is not supported; send it chunked only")
        if b"expect" in headers and self._refusal is None and not exchange.http_10 and not self._exchanges:
            self.write(CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        """Some of the body."""
        self._head_bytes = 0  # from here on it counts what frames the body: sizes of chunks, trailers
        self._body_bytes += len(chunk)
        body = self._body
        if self._body_bytes > self._limits.body_limit_bytes:
            self._refusal = _body_too_large(self._limits.body_limit_bytes)
            body.clear()
        elif self._refusal is not None:
            return
        elif not body or len(chunk) >= _SMALL_CHUNK_BYTES:
            body.append(chunk)
        elif isinstance(body[-1], bytearray):  # an object for each chunk of two bytes would hold 30 times the body
            body[-1] += chunk
        else:
            body.append(bytearray(chunk))

    def on_message_complete(self) -> None:
        """A whole request is here."""
        exchange, self._reading = self._reading, None
        if exchange is None or self._refusal is not None:
            return
        body = self._body
        if body:
            exchange.body = cast(bytes, body[0]) if len(body) == 1 else b"".join(body)
            self._body = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._phase = Phase.IDLE
        if not self._read_paused and len(self._exchanges) < self._limits.pipeline_limit:
            self._handle(exchange)
        elif len(self._backlog) < _BACKLOG_LIMIT_REQUESTS:
            self._server.began()
            self._backlog.append(exchange)
            self._pause_reading()
        else:
            self._refusal = RequestError(f"more than {_BACKLOG_LIMIT_REQUESTS} requests at once on one connection")

    # --- the exchanges' side -------------------------------------------------------------------------------------

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Decide, when its head is written, whether the connection stays open behind this answer."""
        if exchange.keep_alive:
            if not self._ending and not self._server.draining:
                return True
            behind = self._exchanges and self._exchanges[-1] is not exchange
            if behind or self._backlog or self._last_word is not None:
                return True  # what stands behind it was accepted and will be answered
            exchange.keep_alive = False
        self._ending = True  # a client that reads "close" does not read what comes behind it
        return False

    def is_turn_of(self, exchange: Exchange) -> bool:
        """Whether every earlier request was answered whole."""
        return bool(self._exchanges) and self._exchanges[0] is exchange

    @property
    def congested(self) -> bool:
        """The client is behind with reading."""
        return self._write_paused_since_ns != 0

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
            done = exchanges.popleft()
            done.on_disconnect = None
            self._server.ended()
            if not done.keep_alive:
                self._close()
        else:
            self._advance()

    def _advance(self) -> None:
        """Write what has its turn, handle what waits."""
        if self._advancing:
            return  # called by what is handled below, which goes on: a long backlog must not become a deep stack
        self._advancing = True
        exchanges = self._exchanges
        while True:
            while exchanges and exchanges[0].complete:
                done = exchanges.popleft()
                done.on_disconnect = None
                self._server.ended()
                if not done.keep_alive:
                    self._close()
                elif exchanges and (pending := exchanges[0].take_pending()):
                    self.write(pending)
                    self._let_write()
            if not self._backlog or self._write_paused_since_ns or len(exchanges) >= self._limits.pipeline_limit:
                break
            waiting = self._backlog.popleft()
            exchanges.append(waiting)
            self._server.handle(waiting)
        self._advancing = False
        if not self._backlog:
            if self._last_word is not None:
                last_word, self._last_word = self._last_word, None
                self.refuse_and_close(last_word)
            self._resume_reading()

    def _let_write(self) -> None:
        """Tell whoever has the turn that more may be sent, if it wants to know."""
        if self._exchanges and not self.congested and (on_writable := self._exchanges[0].on_writable) is not None:
            on_writable()

    # --- the server's side ---------------------------------------------------------------------------------------

    def check_time(self, now_ns: int) -> None:
        """Called about once a second: end what takes too long."""
        if self._closing_since_ns:
            self._check_closing((now_ns - self._closing_since_ns) / 1e9)
            return
        waited_s = (now_ns - self._phase_since_ns) / 1e9
        if self._write_paused_since_ns:
            if (now_ns - self._write_paused_since_ns) / 1e9 > self._limits.write_timeout_s:
                self._transport.abort()
        elif self._read_paused or (self._phase is Phase.IDLE and self._exchanges):
            self._phase_since_ns = now_ns  # the client waits for us
        elif self._phase is Phase.HEADERS and waited_s > self._limits.header_timeout_s:
            self._refuse(RequestTimeout(f"the request's headers took longer than {self._limits.header_timeout_s:g} s"))
        elif self._phase is Phase.BODY and waited_s > self._limits.body_timeout_s:
            self._refuse(RequestTimeout(f"the request's body took longer than {self._limits.body_timeout_s:g} s"))
        elif self._phase is Phase.IDLE and waited_s > self._limits.idle_timeout_s:
            self._close()

    def _check_closing(self, waited_s: float) -> None:
        if self._lingering and waited_s > _LINGER_S:
            self._transport.close()
        if waited_s > self._limits.write_timeout_s:
            self._transport.abort()  # it does not take the end of its answer: closing would wait for ever

    def refuse_and_close(self, error: SetpointError) -> None:
        """Answer with an error behind whatever is in flight, and close."""
        self._ending = True
        self._lingering = True
        if self._backlog:
            self._last_word = error
            return
        exchange = Exchange(self)
        exchange.keep_alive = False
        self._server.began()
        self._exchanges.append(exchange)
        respond_error(exchange, error)

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        if not self._exchanges and not self._backlog:
            self._close()
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    # --- inside --------------------------------------------------------------------------------------------------

    def _handle(self, exchange: Exchange) -> None:
        self._server.began()
        self._exchanges.append(exchange)
        self._server.handle(exchange)

    def _decline_upgrade(self, rest: memoryview) -> None:
        """Go on in HTTP/1.1 where a client offers another protocol, as Java's does with its first request.

        The parser takes all that follows an offer for the other protocol, even a declared body. So a fresh one reads
        the same head again, without the offer.
        """
        while self._offering is not None:
            offering, self._offering = self._offering, None
            self._parser = httptools.HttpRequestParser(self)
            headers = [b"%b: %b" % header for header in offering.headers.items() if header[0] not in _OFFER_HEADERS]
            if not offering.keep_alive:
                headers.append(b"connection: close")
            version = b"1.0" if offering.http_10 else b"1.1"
            lines = [b"%b %b HTTP/%b" % (offering.method, offering.path, version), *headers, b"", b""]
            try:
                self._parser.feed_data(b"\r\n".join(lines))
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
        self._ending = True  # CONNECT: what follows is not HTTP, and its answer says that we close

    def _refuse(self, error: SetpointError) -> None:
        if self._ending:
            return
        self._reading = None
        self._refusal = None
        self._body.clear()
        self._phase = Phase.IDLE
        accepted = self._backlog or self._exchanges
        if accepted and not accepted[-1].keep_alive:
            self._ending = True  # the client said itself that nothing counts behind that request
        else:
            self.refuse_and_close(error)

    def _close(self) -> None:
        self._ending = True
        if self._closing_since_ns:
            return
        self._closing_since_ns = self._server.now_ns()
        if self._lingering and self._transport.can_write_eof() and not self._transport.is_closing():
            # Closing with its body unread would reset the connection and could take the refusal from the client: say
            # that we are done, and drop what it still sends, for a moment.
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


def _resolve_target(exchange: Exchange) -> None:
    """Request targets that are no paths: absolute URLs, as to a proxy, and what follows CONNECT."""
    if exchange.method == b"CONNECT":
        exchange.keep_alive = False
    elif (scheme_end := exchange.path.find(b"://")) > 0:
        path_start = exchange.path.find(b"/", scheme_end + 3)
        exchange.path = exchange.path[path_start:] if path_start > 0 else b"/"


def _body_too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request's body is larger than the limit of {limit_bytes} bytes (--max-body)")


def _header_too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request's headers are larger than the limit of {limit_bytes} bytes", header=True)
