"""The half of an HTTP/2 connection that answers: as far as the client's windows allow, each stream in its turn."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from setpoint.core import Limits
from setpoint.node.http.exchange import Exchange
from setpoint.node.http.head import Headers
from setpoint.node.http.http2_guard import FRAME_LIMIT_BYTES, FrameGuard
from setpoint.node.http.http2_stream import Stream, answer_fields

if TYPE_CHECKING:
    from setpoint.node.http.server import HttpServer

_STREAM_WINDOW_BYTES = 1 << 20
_CONNECTION_WINDOW_BYTES = 4 << 20
"""What of bodies may be under way. It is read as it comes, so this bounds nothing but what the network holds."""
_FRAMES_AT_ONCE = 16


class Library(H2Connection):
    """h2's state machine of one connection, with our limits."""

    MAX_CLOSED_STREAMS = 1024  # its own number would keep 65,536 of each connection in mind

    def __init__(self, limits: Limits) -> None:
        # What we send is well-formed: checking it again would double what an answer costs.
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.multiplex_limit,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                SettingCodes.MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_limit_bytes,
            },
        )
        # Twice what is allowed is still read, so that somebody near the limit is told 431; more ends the connection.
        self.decoder.max_header_list_size = 2 * limits.header_limit_bytes

    def begin(self) -> None:
        """Say our settings."""
        self.initiate_connection()
        self.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - self.remote_settings.initial_window_size)


class AnswerSender(asyncio.Protocol, ABC):
    """Streams in flight, and what is said on them. The half that reads inherits it."""

    def __init__(self, server: HttpServer, transport: asyncio.Transport) -> None:
        self._server = server
        self._limits = server.limits
        self._transport = transport
        self._guard = FrameGuard(server.limits, server.now_ns())
        self._h2 = Library(server.limits)
        self._streams: dict[int, Stream] = {}
        # Answered before their request was here whole, which may still come.
        self._refused_since_ns: dict[int, int] = {}
        self._write_paused_since_ns = 0
        # While events are handled, what is to be sent gathers.
        self._gathering = False

    @abstractmethod
    def _after_last(self) -> None:
        """No stream is left."""

    # --- the exchanges' side -------------------------------------------------------------------------------------

    def answer(self, exchange: Exchange, status: int, body: bytes, content_type: bytes, headers: Headers) -> None:
        """Send a whole answer, as far as the client's window allows at once."""
        stream = cast(Stream, exchange)
        self._server.responses[status] += 1
        if stream.stream_id not in self._streams:
            return
        said = b"" if exchange.method == b"HEAD" else body
        stream.outgoing += said
        stream.ending = True
        try:
            fields = answer_fields(exchange, status, content_type, len(body), headers)
            self._h2.send_headers(stream.stream_id, fields, end_stream=not said)
            if said:
                self._send(stream, _FRAMES_AT_ONCE)
            else:
                self._said(stream)
        except H2Error:
            self._drop(stream)  # the client took it back in this very packet
        self._flush()

    def begin(self, exchange: Exchange, content_type: bytes, headers: Headers) -> None:
        """Send the head of a stream."""
        stream = cast(Stream, exchange)
        self._server.responses[200] += 1
        if stream.stream_id in self._streams:
            self._h2.send_headers(stream.stream_id, answer_fields(exchange, 200, content_type, None, headers))
            self._flush()

    def send(self, exchange: Exchange, chunk: bytes) -> None:
        """Send a piece of a stream."""
        stream = cast(Stream, exchange)
        if stream.stream_id in self._streams:
            stream.outgoing += chunk
            self._send(stream, _FRAMES_AT_ONCE)
            self._flush()

    def end(self, exchange: Exchange) -> None:
        """Send the end of a stream."""
        stream = cast(Stream, exchange)
        stream.streaming = False
        stream.on_writable = None
        if stream.stream_id in self._streams:
            stream.ending = True
            self._send(stream, _FRAMES_AT_ONCE)
            self._flush()

    def is_congested(self, exchange: Exchange) -> bool:
        """The client is behind with reading this answer, or all of them."""
        return self._write_paused_since_ns != 0 or bool(cast(Stream, exchange).outgoing)

    def reserve_stream(self) -> None:
        """Count one more stream of the node, or raise ``RefusedError``."""
        self._server.reserve_stream()

    def release(self, body_bytes: int, streams: int) -> None:
        """Count so much less."""
        self._server.release(body_bytes, streams)

    # --- inside --------------------------------------------------------------------------------------------------

    def _send(self, stream: Stream, frames: int) -> int:
        """Send up to so many frames of what waits; returns how many."""
        h2, outgoing, sent = self._h2, stream.outgoing, 0
        while outgoing and sent < frames and not self._write_paused_since_ns:
            room_bytes = min(h2.local_flow_control_window(stream.stream_id), h2.max_outbound_frame_size)
            if room_bytes <= 0:
                stream.waiting_since_ns = stream.waiting_since_ns or self._server.now_ns()
                break
            stream.waiting_since_ns = 0
            chunk = bytes(outgoing[:room_bytes])
            del outgoing[:room_bytes]
            sent += 1
            h2.send_data(stream.stream_id, chunk, end_stream=stream.ending and not outgoing)
        if stream.ending and not outgoing:
            if not sent:  # a stream's last piece went before its end was known
                h2.send_data(stream.stream_id, b"", end_stream=True)
            self._said(stream)
        self._guard.sent_data(sent)
        return sent

    def _send_waiting(self) -> None:
        """Send what waits: a few frames of each stream in turn, so that a large answer does not hold up the others."""
        waiting = [stream for stream in self._streams.values() if stream.outgoing]
        sent = 1
        while sent and waiting and not self._write_paused_since_ns:
            sent = sum(self._send(stream, _FRAMES_AT_ONCE) for stream in waiting)
            waiting = [stream for stream in waiting if stream.outgoing]
            self._write()

    def _let_write(self) -> None:
        """Tell those who stream that more may be sent, if they want to know."""
        for stream in list(self._streams.values()):
            if stream.on_writable is not None and not self.is_congested(stream):
                stream.on_writable()

    def _said(self, stream: Stream) -> None:
        """Everything was sent."""
        stream.on_disconnect = None
        if not stream.whole:
            # Many a client first sends all of its request: stopped at once, it would not read why.
            self._refused_since_ns[stream.stream_id] = self._server.now_ns()
        self._forget(stream)

    def _drop(self, stream: Stream) -> None:
        """The client has left this stream before everything was said."""
        self._forget(stream)
        if not stream.complete:
            stream.disconnected()

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.stream_id, None) is None:
            return
        stream.outgoing = bytearray()
        self._let_go_of_body(stream)
        if stream.counted:
            self._server.ended()
        if not self._streams:
            self._after_last()

    def _let_go_of_body(self, stream: Stream) -> None:
        if stream.body_bytes:
            self._server.hold_body(-stream.body_bytes)
            stream.body_bytes = 0

    def _flush(self) -> None:
        if not self._gathering:
            self._send_waiting()
            self._write()

    def _write(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
