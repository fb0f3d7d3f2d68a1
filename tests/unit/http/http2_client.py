"""A client that speaks HTTP/2 to one connection without a socket, with h2's client side, and frames made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from in_memory import Client

from setpoint.node.http import Exchange

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MINIMAL_HEAD = bytes([0x82, 0x86, 0x84, 0x41, 1]) + b"x"  # GET, http, /, authority x, from HPACK's static table
HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", "test")]


@dataclass
class Reply:
    """What came on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    interim: list[str] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http2Client(Client):
    """Attributes:
    replies: by stream.
    goodbye: the error code of the server's GOAWAY.
    reads: give the windows back for what is received.
    """

    def __init__(
        self, handler: Callable[[Exchange], None] | None = None, *, reads: bool = True, **options: Any
    ) -> None:
        super().__init__(handler, **options)
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.replies: dict[int, Reply] = {}
        self.goodbye: int | None = None
        self.reads = reads
        self._taken = 0
        self.h2.initiate_connection()
        self.exchange_bytes()

    def exchange_bytes(self) -> Http2Client:
        """Send what is to be sent, and read what came, until nothing more comes."""
        while True:
            data = self.h2.data_to_send()
            if data:
                self.send(data)
            came = bytes(self.transport.received[self._taken :])
            self._taken += len(came)
            if not came and not data:
                return self
            for event in self.h2.receive_data(came) if came else []:
                self._take(event)

    def _take(self, event: Any) -> None:
        reply = self.replies.setdefault(getattr(event, "stream_id", None) or 0, Reply())
        if isinstance(event, ResponseReceived):
            reply.headers = dict(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            reply.interim.append(dict(event.headers)[":status"])
        elif isinstance(event, DataReceived):
            reply.body += event.data
            if self.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            reply.ended = True
        elif isinstance(event, StreamReset):
            reply.reset = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = event.error_code

    def ask(
        self, path: str = "/", body: bytes | None = None, headers: Iterable[tuple[str, str]] = (), ended: bool = True
    ) -> int:
        """Send a request; returns its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = [*HEAD, (":path", path), *headers]
        if body is not None:
            fields[0] = (":method", "POST")
        self.h2.send_headers(stream_id, fields, end_stream=body is None and ended)
        if body is not None:
            self.say(stream_id, body, ended)
        self.exchange_bytes()
        return stream_id

    def say(self, stream_id: int, body: bytes, ended: bool = True) -> None:
        """Send a body, in frames as the server's windows allow."""
        while len(body) > (room := min(16_384, self.h2.local_flow_control_window(stream_id))):
            self.h2.send_data(stream_id, body[:room])
            body = body[room:]
            self.exchange_bytes()
        self.h2.send_data(stream_id, body, end_stream=ended)
        self.exchange_bytes()

    def reply(self, *arguments: Any, **options: Any) -> Reply:
        """Ask, and return what came."""
        return self.replies[self.ask(*arguments, **options)]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Nine bytes and a payload, whatever they say."""
    declared = len(payload) if length is None else length
    return declared.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload
