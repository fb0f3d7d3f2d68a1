"""One client connection: HTTP/1.1 with keep-alive and pipelining, every limit and time-out with a number.

Why not a ready ASGI server: a request here costs no task, no scope dictionary and no event; a refusal is written before
the parser returns; a client that leaves cancels its work at once; slow senders and slow readers are timed out.
``docs/adr/0002-http-server.md`` has the figures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from setpoint.core import RequestError, SetpointError
from setpoint.node.http.exchange import Exchange, respond_error
from setpoint.node.http.head import (
    CLOSE,
    CONTINUE,
    JSON,
    KEEP_ALIVE,
    Headers,
    json_response,
    response_head,
    stream_head,
)
from setpoint.node.http.pace import Pace
from setpoint.node.http.reading import Phase, RequestReader
from setpoint.node.http.refusals import header_too_slow
from setpoint.node.http.straight_body import StraightBody

if TYPE_CHECKING:
    from setpoint.node.http.server import HttpServer

_LINGER_S = 1.0
"""How long a refused client may go on sending before its connection is closed."""
_BACKLOG_LIMIT_REQUESTS = 1024
"""Requests of one connection that wait behind the pipeline limit: one read of a socket can bring ten thousand."""


class HttpConnection(RequestReader):
    """Hands requests to the server's handler and writes the answers in the order of the requests.

    ``RequestReader`` reads them, and says here what it read, or why it cannot go on.
    """

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        # In flight, in order of arrival: the head of this queue has the turn to write.
        self._exchanges: deque[Exchange] = deque()
        # Read but not yet handled: beyond the pipeline limit, or the client does not read its answers.
        self._backlog: deque[Exchange] = deque()
        # How many of them were read before the node began to drain.
        self._promised = 0
        self._advancing = False
        self._going_on = False
        # A refusal that must wait until the backlog was handled.
        self._last_word: SetpointError | None = None
        self._lingering = False
        # When everything was said; 0 before.
        self._closing_since_ns = 0
        self._write_paused_since_ns = 0
        self._read_paused = False
        # How fast the body comes that began at this time.
        self._pace: Pace | None = None
        self._paced_since_ns = 0

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
        left, self._exchanges = [*self._exchanges, *self._backlog], deque()
        self._backlog = deque()
        self._last_word = None
        self._server.ended(len(left))
        for exchange in left:
            if not exchange.complete:
                exchange.disconnected()
        self._forget_body()
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

    def _speak_http2(self, rest: bytes) -> None:
        """The client began with the preface of HTTP/2: by agreement in TLS, or knowing that we speak it."""
        from setpoint.node.http.http2_connection import Http2Connection  # few clients speak it, and it takes 60 ms

        self._ending = True
        successor = Http2Connection(self._server, self._transport)
        self._server.continues(self, successor)
        self._transport.set_protocol(successor)
        del self._parser
        successor.start(rest)

    # --- requests ------------------------------------------------------------------------------------------------

    def _accept(self, exchange: Exchange) -> None:
        """A whole request is here: hand it on, or let it wait for its turn."""
        limit = self._limits.pipeline_limit
        if not self._read_paused and self._handled < limit and len(self._exchanges) < limit:
            self._handled += 1
            server = self._server
            server.in_flight += 1
            self._exchanges.append(exchange)
            server.handle(exchange)
        elif len(self._backlog) < _BACKLOG_LIMIT_REQUESTS:
            self._server.began()
            self._backlog.append(exchange)
            self._pause_reading()
            self._go_on_later()
        else:
            self._refusal = RequestError(f"more than {_BACKLOG_LIMIT_REQUESTS} requests at once on one connection")

    def _invite_body(self) -> None:
        """Not while earlier answers are owed: it would be read as one of them. Such clients wait a second or so."""
        if not self._exchanges:
            self._write(CONTINUE)

    def _straight_body(self, declared_bytes: int, pieces: list[bytes | bytearray]) -> StraightBody | None:
        if self._transport.get_extra_info("sslcontext") is not None:
            return None  # encrypted bytes are copied anyway
        straight = StraightBody(self, declared_bytes, pieces)
        self._transport.set_protocol(straight)
        return straight

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.set_protocol(self)

    # --- the exchanges' side -------------------------------------------------------------------------------------

    def answer(self, exchange: Exchange, status: int, body: bytes, content_type: bytes, headers: Headers) -> None:
        """Send a whole answer, when every earlier request has its own."""
        server = self._server
        server.responses[status] += 1
        lines = exchange.lines
        if self._ending or server.draining or not exchange.keep_alive or exchange.http_10:
            lines += self._connection_line(exchange)
        if status == 200 and content_type is JSON and not headers and exchange.method != b"HEAD":
            said = json_response(body, exchange.request_id, lines)
        else:
            said = response_head(status, content_type, len(body), headers, exchange.request_id, lines)
            if exchange.method != b"HEAD":
                said += body
        exchanges = self._exchanges
        if not exchanges or exchanges[0] is not exchange:
            exchange.hold(said)
        else:
            transport = self._transport
            if not transport.is_closing():
                transport.write(said)
            if len(exchanges) == 1 and not self._backlog:  # what nearly always happens, without the loops
                exchanges.popleft()
                exchange.on_disconnect = None
                server.in_flight -= 1
                if server.draining:
                    server.ended(0)
                if not exchange.keep_alive:
                    self._close()
                return
        self._advance()

    def begin(self, exchange: Exchange, content_type: bytes, headers: Headers) -> None:
        """Send the head of a stream."""
        chunked = not exchange.http_10
        if not chunked:
            exchange.keep_alive = False
        self._server.responses[200] += 1
        lines = exchange.lines + self._connection_line(exchange)
        self._say(exchange, stream_head(content_type, headers, chunked, exchange.request_id, lines))

    def send(self, exchange: Exchange, chunk: bytes) -> None:
        """Send a piece of a stream."""
        self._say(exchange, chunk if exchange.http_10 else b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def end(self, exchange: Exchange) -> None:
        """Send the end of a stream, and give the turn to the next request."""
        if not exchange.http_10:
            self._say(exchange, b"0\r\n\r\n")
        exchange.streaming = False
        exchange.on_writable = None
        self._advance()

    def is_congested(self, exchange: Exchange) -> bool:
        """The client is behind with reading, or earlier requests are not answered yet."""
        return self._write_paused_since_ns != 0 or not self._is_turn_of(exchange)

    def reserve_stream(self) -> None:
        """Count one more stream of the node, or raise ``RefusedError``."""
        self._server.reserve_stream()

    def release(self, body_bytes: int, streams: int) -> None:
        """Count so much less."""
        self._server.release(body_bytes, streams)

    def _is_turn_of(self, exchange: Exchange) -> bool:
        return bool(self._exchanges) and self._exchanges[0] is exchange

    def _say(self, exchange: Exchange, chunk: bytes) -> None:
        if self._is_turn_of(exchange):
            self._write(chunk)
        else:
            exchange.hold(chunk)

    def _write(self, chunk: bytes) -> None:
        """Send bytes; nowhere, if the client has left."""
        if not self._transport.is_closing():
            self._transport.write(chunk)

    def _connection_line(self, exchange: Exchange) -> bytes:
        """Decide, when its head is written, whether the connection stays open behind this answer."""
        if exchange.keep_alive:
            behind = self._exchanges and self._exchanges[-1] is not exchange
            if behind or self._backlog or self._last_word is not None or not (self._ending or self._server.draining):
                # What stands behind it was accepted and will be answered.
                return KEEP_ALIVE if exchange.http_10 else b""
            exchange.keep_alive = False
        self._ending = True  # a client that reads "close" does not read what comes behind it
        return CLOSE

    def _advance(self) -> None:
        """Write what has its turn, handle what waits."""
        if self._advancing:
            return  # called by what is handled below, which goes on: a long backlog must not become a deep stack
        self._advancing = True
        exchanges, limit = self._exchanges, self._limits.pipeline_limit
        while True:
            while exchanges and exchanges[0].complete:
                done = exchanges.popleft()
                done.on_disconnect = None
                self._server.ended()
                if not done.keep_alive:
                    self._close()
                elif exchanges and (pending := exchanges[0].take_pending()):
                    self._write(pending)
                    self._let_write()
            if not self._backlog or self._write_paused_since_ns or max(len(exchanges), self._handled) >= limit:
                break
            self._handled += 1
            waiting = self._backlog.popleft()
            exchanges.append(waiting)
            if self._promised:
                self._promised -= 1
                self._server.handle_promised(waiting)
            else:
                self._server.handle(waiting)
        self._advancing = False
        self._go_on_later()
        if not self._backlog:
            if self._last_word is not None:
                last_word, self._last_word = self._last_word, None
                self.refuse_and_close(last_word)
            self._resume_reading()

    def _let_write(self) -> None:
        """Tell whoever has the turn that more may be sent, if it wants to know."""
        if (
            self._exchanges
            and not self._write_paused_since_ns
            and (on_writable := self._exchanges[0].on_writable) is not None
        ):
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
            self._pace = None
        elif self._phase is Phase.HEADERS and waited_s > self._limits.header_timeout_s:
            self._refuse(header_too_slow(self._limits))
        elif self._phase is Phase.BODY:
            self._check_pace(now_ns)
        elif self._phase is Phase.IDLE and waited_s > self._limits.idle_timeout_s:
            self._close()

    def _check_pace(self, now_ns: int) -> None:
        if self._pace is None or self._paced_since_ns != self._phase_since_ns:
            self._paced_since_ns = self._phase_since_ns
            self._pace = Pace(self._limits, self._phase_since_ns)
        if (timeout := self._pace.judge(now_ns, self._body_bytes)) is not None:
            self._refuse(timeout)

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

    def drain(self) -> None:
        """The node begins to shut down; what was read until now is answered."""
        self._promised = len(self._backlog)

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        if not self._exchanges and not self._backlog:
            self._close()
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    # --- inside --------------------------------------------------------------------------------------------------

    def _go_on_later(self) -> None:
        """Requests that are answered at once leave no trace in the pipeline: one packet can hold ten thousand."""
        if self._backlog and self._handled >= self._limits.pipeline_limit and not self._going_on:
            self._going_on = True
            self._server.soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._handled = 0
        self._advance()

    def _refuse(self, error: SetpointError) -> None:
        if self._ending:
            return
        self._reading = None
        self._refusal = None
        self._forget_body()
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
