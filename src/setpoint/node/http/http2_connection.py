"""One client connection that speaks HTTP/2 (RFC 9113), on the library h2: many requests at once, under the same limits.

This module is imported when the first client speaks HTTP/2: the library takes some 60 ms to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error

from setpoint.core import SetpointError
from setpoint.node.http.exchange import respond_error
from setpoint.node.http.http2_guard import Abuse
from setpoint.node.http.http2_sending import AnswerSender
from setpoint.node.http.http2_stream import Stream
from setpoint.node.http.reading import HTTP2_PREFACE
from setpoint.node.http.refusals import body_too_large, too_many_bodies

if TYPE_CHECKING:
    from setpoint.node.http.server import HttpServer

_LINGER_S = 1.0
"""How long a refused client may go on sending before it is told to stop."""


class Http2Connection(AnswerSender):
    """Hands requests to the server's handler as they are here whole."""

    def __init__(self, server: HttpServer, transport: asyncio.Transport) -> None:
        super().__init__(server, transport)
        self._idle_since_ns = server.now_ns()
        self._closing_since_ns = 0
        self._draining = False
        self._lingering = False

    def start(self, rest: bytes) -> None:
        """Take over a connection whose client has sent the preface, and this behind it."""
        self._h2.begin()
        self._h2.receive_data(HTTP2_PREFACE)
        self._write()
        if rest:
            self.data_received(rest)

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or we closed: whatever it still waited for is cancelled."""
        self._closing_since_ns = self._closing_since_ns or self._server.now_ns()
        self._server.closed(self)
        self._leave_all()

    def eof_received(self) -> bool:
        """The client closed its side: it has left."""
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._write_paused_since_ns = self._server.now_ns()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_paused_since_ns = 0
        self._flush()
        self._let_write()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._closing_since_ns:
            return
        try:
            self._guard.look(data, self._server.now_ns())
            events = self._h2.receive_data(data)
        except Abuse as abuse:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM, str(abuse))
            return
        except H2Error:
            self._write()  # the library has said why
            self._linger()
            return
        if any(type(event) is ConnectionTerminated for event in events):
            # The library sends nothing once the other side has said goodbye: what was asked for has nobody to go to.
            self._leave_all()
            self._close()
            return
        self._gathering = True
        # First what is taken back: the library sends nothing on it any more, and what this packet asks for and takes
        # back is not begun.
        taken_back = {event.stream_id for event in events if type(event) is StreamReset}
        for stream_id in taken_back:
            self._cancel(stream_id)
        for event in events:
            take = self._TAKES.get(type(event))
            if take is not None and getattr(event, "stream_id", 0) not in taken_back:
                take(self, event)
        self._gathering = False
        self._flush()
        self._let_write()

    # --- requests ------------------------------------------------------------------------------------------------

    def _begin(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        stream = self._streams[stream_id] = Stream(self, stream_id, self._limits, self._server.now_ns())
        refusal = stream.take_head(event.headers, self._limits)
        if refusal is not None:
            self._refuse(stream, refusal)
        elif b"expect" in stream.headers and event.stream_ended is None:
            self._h2.send_headers(stream_id, [(b":status", b"100")])

    def _read_body(self, event: DataReceived) -> None:
        stream_id, data = event.stream_id, event.data
        self._h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
        stream = self._streams.get(stream_id)
        if stream is None or stream.answered:
            return  # what is still sent behind a refusal
        stream.parts.append(data)
        stream.body_bytes += len(data)
        held = self._server.hold_body(len(data))
        if stream.body_bytes > self._limits.body_limit_bytes:
            self._refuse(stream, body_too_large(self._limits))
        elif not held and event.stream_ended is None:
            self._refuse(stream, too_many_bodies(self._limits))

    def _complete(self, event: StreamEnded) -> None:
        self._refused_since_ns.pop(event.stream_id, None)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if stream.answered:
            stream.whole = True
            return
        stream.take_body()
        self._count(stream)
        self._server.handle(stream)

    def _cancel(self, stream_id: int) -> None:
        self._refused_since_ns.pop(stream_id, None)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._drop(stream)

    _TAKES: ClassVar[dict[type[Event], Callable[[Any, Any], None]]] = {
        RequestReceived: _begin,
        DataReceived: _read_body,
        StreamEnded: _complete,
    }

    def _refuse(self, stream: Stream, error: SetpointError) -> None:
        """Answer although the request is not here whole; what is still sent of it is dropped."""
        self._let_go_of_body(stream)
        stream.parts = []
        self._count(stream)
        respond_error(stream, error)

    def _count(self, stream: Stream) -> None:
        stream.counted = True
        self._server.began()

    # --- the server's side ---------------------------------------------------------------------------------------

    def check_time(self, now_ns: int) -> None:
        """Called about once a second: end what takes too long."""
        write_limit_ns = self._limits.write_timeout_s * 1e9
        paused_since_ns = self._closing_since_ns or self._write_paused_since_ns
        if self._lingering and now_ns - self._closing_since_ns > _LINGER_S * 1e9:
            self._transport.close()
        if paused_since_ns:
            if now_ns - paused_since_ns > write_limit_ns:
                self._transport.abort()
            return
        try:
            self._guard.check_time(now_ns)
        except Abuse as abuse:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM, str(abuse))
            return
        if not self._streams and now_ns - self._idle_since_ns > self._limits.idle_timeout_s * 1e9:
            self._go_away(ErrorCodes.NO_ERROR)
        for stream_id, since_ns in list(self._refused_since_ns.items()):
            if now_ns - since_ns > _LINGER_S * 1e9:
                del self._refused_since_ns[stream_id]
                self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)  # RFC 9113, 8.1
        for stream in list(self._streams.values()):
            if not stream.whole and not stream.answered:
                if (timeout := stream.pace.judge(now_ns, stream.body_bytes)) is not None:
                    self._refuse(stream, timeout)
            elif stream.waiting_since_ns and now_ns - stream.waiting_since_ns > write_limit_ns:
                self._h2.reset_stream(stream.stream_id, ErrorCodes.CANCEL)
                self._drop(stream)
        self._flush()

    def drain(self) -> None:
        """The node begins to shut down: say goodbye once what was begun is answered.

        Not at once, with the last stream's number, as the protocol allows: clients on this very library, httpx among
        them, take any goodbye for the end, and would not read their answers. What comes meanwhile is answered 503.
        """
        self._draining = True
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        if not self._streams:
            self._go_away(ErrorCodes.NO_ERROR)

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    def _after_last(self) -> None:
        self._idle_since_ns = self._server.now_ns()
        if self._draining:
            self._go_away(ErrorCodes.NO_ERROR)

    def _go_away(self, code: ErrorCodes, why: str = "") -> None:
        if not self._closing_since_ns:
            self._h2.close_connection(code, why.encode()[:200])
            self._write()
            if code == ErrorCodes.NO_ERROR:
                self._close()
            else:
                self._linger()

    def _linger(self) -> None:
        """Close, and let somebody who is still sending read why: over unread bytes, closing would be a reset."""
        self._leave_all()
        if not self._closing_since_ns and self._transport.can_write_eof() and not self._transport.is_closing():
            self._closing_since_ns = self._server.now_ns()
            self._lingering = True
            self._transport.write_eof()
        else:
            self._close()

    def _leave_all(self) -> None:
        for stream in list(self._streams.values()):
            self._drop(stream)

    def _close(self) -> None:
        self._closing_since_ns = self._closing_since_ns or self._server.now_ns()
        self._transport.close()
