"""One request and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from setpoint.core import SetpointError
from setpoint.node.http.head import response_head, stream_head
from setpoint.wire import body_of, headers_of, status_of

if TYPE_CHECKING:
    from setpoint.node.http.connection import HttpConnection

JSON = b"application/json"
Headers = tuple[tuple[bytes, bytes], ...]


class Exchange:
    """A request that was read whole, and the means to answer it once.

    There is no task per request: a handler returns at once and whoever has the answer calls ``respond``, or
    ``begin_stream``, ``send`` and ``end_stream``. Where the client leaves first, ``on_disconnect`` is called instead,
    and what is sent afterwards goes nowhere.

    Attributes:
        method: such as ``b"POST"``.
        path: as sent, percent-encoded, without the query.
        query: what came behind ``?``; empty without.
        headers: by name in lower case; of repeated ones the last.
        body: whole, transfer-decoded.
        keep_alive: the client means to reuse the connection.
        on_disconnect: called once, if the client leaves before its answer is complete.
        on_writable: called when more may be sent after ``congested`` was true.
    """

    __slots__ = (
        "_connection",
        "_pending",
        "answered",
        "body",
        "headers",
        "http_10",
        "keep_alive",
        "method",
        "on_disconnect",
        "on_writable",
        "path",
        "query",
        "streaming",
    )

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._pending: list[bytes] | None = None
        self.method = b""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.http_10 = False
        self.answered = False
        self.streaming = False
        self.on_disconnect: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def head_bytes(self) -> int:
        """Bytes of the request target and the headers."""
        return (
            len(self.path) + len(self.query) + sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        )

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers = ()) -> None:
        """Answer whole. A second answer is a programming error and is refused loudly."""
        if self.answered:
            raise RuntimeError(f"{self.method!r} {self.path!r} was answered twice")
        self.answered = True
        head = response_head(status, content_type, len(body), headers, self.http_10, self._connection.keeps_alive(self))
        self._connection.count_response(status)
        self._write(head if self.method == b"HEAD" else head + body)
        self._connection.finished()

    def begin_stream(self, content_type: bytes, headers: Headers = ()) -> None:
        """Begin an answer of unknown length: chunked, or to the end of the connection for HTTP/1.0."""
        if self.answered:
            raise RuntimeError(f"{self.method!r} {self.path!r} was answered twice")
        self.answered = True
        self.streaming = True
        if self.http_10:
            self.keep_alive = False
        self._connection.count_response(200)
        self._write(stream_head(content_type, headers, self.http_10, self._connection.keeps_alive(self)))

    def send(self, chunk: bytes) -> None:
        """Send a piece of a stream."""
        if chunk:
            self._write(chunk if self.http_10 else b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def end_stream(self) -> None:
        """The stream is complete."""
        if not self.http_10:
            self._write(b"0\r\n\r\n")
        self.streaming = False
        self.on_writable = None
        self._connection.finished()

    def _write(self, chunk: bytes) -> None:
        if self._connection.is_turn_of(self):
            self._connection.write(chunk)
        elif self._pending is None:
            self._pending = [chunk]
        else:
            self._pending.append(chunk)

    def disconnected(self) -> None:
        """The client has left before everything was said."""
        on_disconnect, self.on_disconnect = self.on_disconnect, None
        self.on_writable = None
        self._pending = None
        if on_disconnect is not None:
            on_disconnect()

    @property
    def congested(self) -> bool:
        """What is sent now would wait in memory: for the client to read, or for the requests before this one."""
        return self._connection.congested or not self._connection.is_turn_of(self)

    @property
    def complete(self) -> bool:
        """Everything was said."""
        return self.answered and not self.streaming

    def take_pending(self) -> bytes:
        """What was said before it was this request's turn on the connection (pipelining)."""
        pending, self._pending = self._pending, None
        return b"".join(pending) if pending else b""


def respond_error(exchange: Exchange, error: SetpointError) -> None:
    """Answer with an error, unless the client has its answer already."""
    if not exchange.answered:
        headers = tuple((name.encode(), value.encode()) for name, value in headers_of(error))
        exchange.respond(status_of(error), body_of(error), headers=headers)
