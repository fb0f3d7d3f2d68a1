"""One request and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from setpoint.core import SetpointError
from setpoint.node.http.head import JSON, Headers
from setpoint.node.http.identity import TraceContext, given_request_id, made_request_id, trace_context
from setpoint.wire import body_of, headers_of, status_of


class Answering(Protocol):
    """The connection that a request came on, in whichever version of HTTP."""

    def answer(self, exchange: Exchange, status: int, body: bytes, content_type: bytes, headers: Headers) -> None:
        """Send a whole answer."""
        ...

    def begin(self, exchange: Exchange, content_type: bytes, headers: Headers) -> None:
        """Send the head of a stream."""
        ...

    def send(self, exchange: Exchange, chunk: bytes) -> None:
        """Send a piece of a stream, which is not empty."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Send the end of a stream."""
        ...

    def is_congested(self, exchange: Exchange) -> bool:
        """Whether what is sent now would wait in memory."""
        ...

    def reserve_stream(self) -> None:
        """Count one more stream, or raise ``RefusedError``."""
        ...

    def release(self, body_bytes: int, streams: int) -> None:
        """Count so much less."""
        ...


class Exchange:
    """A request that was read whole, and the means to answer it once.

    There is no task per request: a handler returns at once and whoever has the answer calls ``respond``, or
    ``begin_stream``, ``send`` and ``end_stream``. Where the client leaves first, ``on_disconnect`` is called instead,
    and what is sent afterwards goes nowhere.

    Attributes:
        method: such as ``b"POST"``.
        path: as sent, percent-encoded, without the query.
        query: what came behind ``?``; empty without.
        headers: by name in lower case; of repeated ones the last, except where a list was meant.
        body: whole, transfer-decoded.
        keep_alive: the client means to reuse the connection.
        lines: headers of the answer, ready to be sent, each ended by CR LF: for whoever handles the request to add to.
        on_disconnect: called once, if the client leaves before its answer is complete.
        on_writable: called when more may be sent after ``congested`` was true.
    """

    __slots__ = (
        "_connection",
        "_held",
        "_pending",
        "_request_id",
        "_trace",
        "answered",
        "body",
        "headers",
        "http_10",
        "keep_alive",
        "lines",
        "method",
        "on_disconnect",
        "on_writable",
        "path",
        "query",
        "streaming",
    )

    def __init__(self, connection: Answering) -> None:
        self._connection = connection
        self._pending: list[bytes] | None = None
        self._request_id: bytes | None = None
        self._trace: TraceContext | None = None
        # Bytes of its body that count towards the node's limit, and places among its streams.
        self._held: tuple[int, int] | None = None
        self.method = b""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.http_10 = False
        self.answered = False
        self.streaming = False
        self.lines = b""
        self.on_disconnect: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def head_bytes(self) -> int:
        """Bytes of the request target and the headers."""
        return (
            len(self.path) + len(self.query) + sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        )

    @property
    def request_id(self) -> bytes:
        """The client's ``x-request-id``, or one made here; the answer carries it."""
        if self._request_id is None:
            given = self.headers.get(b"x-request-id")
            self._request_id = (given and given_request_id(given)) or made_request_id()
        return self._request_id

    @property
    def trace(self) -> TraceContext | None:
        """The trace that the client's ``traceparent`` names; None without a well-formed one."""
        if self._trace is None and (traceparent := self.headers.get(b"traceparent")) is not None:
            self._trace = trace_context(traceparent, self.headers.get(b"tracestate", b""))
        return self._trace

    def respond(self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers = ()) -> None:
        """Answer whole. A second answer is a programming error and is refused loudly."""
        if self.answered:
            raise RuntimeError(f"{self.method!r} {self.path!r} was answered twice")
        self.answered = True
        if self._held is not None:
            self._release()
        if b"traceparent" in self.headers:
            self._tell_trace()
        self._connection.answer(self, status, body, content_type, headers)

    def begin_stream(self, content_type: bytes, headers: Headers = ()) -> None:
        """Begin an answer of unknown length: chunked, or to the end of the connection for HTTP/1.0."""
        if self.answered:
            raise RuntimeError(f"{self.method!r} {self.path!r} was answered twice")
        self.answered = True
        self.streaming = True
        self._tell_trace()
        self._connection.begin(self, content_type, headers)

    def reserve_stream(self) -> None:
        """Take a place among the streams that the node may answer at once; for whoever means to stream, before work.

        It is given back with the end of the answer, whichever that is, or when the client leaves.

        Raises:
            RefusedError: there is none.
        """
        body_bytes, streams = self._held or (0, 0)
        if not streams:
            self._connection.reserve_stream()
            self._held = body_bytes, 1

    def hold_body(self, body_bytes: int) -> None:
        """So much more of what all bodies may hold is this one's, until it is answered; for whoever counted it."""
        held_bytes, streams = self._held or (0, 0)
        self._held = held_bytes + body_bytes, streams

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._connection.release(*held)

    def send(self, chunk: bytes) -> None:
        """Send a piece of a stream."""
        if chunk:
            self._connection.send(self, chunk)

    def end_stream(self) -> None:
        """The stream is complete."""
        self._release()
        self._connection.end(self)

    def _tell_trace(self) -> None:
        if (trace := self.trace) is not None:
            self.lines += trace.response_line

    def disconnected(self) -> None:
        """The client has left before everything was said."""
        on_disconnect, self.on_disconnect = self.on_disconnect, None
        self.on_writable = None
        self._pending = None
        self._release()
        if on_disconnect is not None:
            on_disconnect()

    @property
    def congested(self) -> bool:
        """What is sent now would wait in memory: for the client to read, or for the requests before this one."""
        return self._connection.is_congested(self)

    @property
    def complete(self) -> bool:
        """Everything was said."""
        return self.answered and not self.streaming

    def hold(self, chunk: bytes) -> None:
        """Keep what is said before it is this request's turn on the connection (pipelining)."""
        if self._pending is None:
            self._pending = [chunk]
        else:
            self._pending.append(chunk)

    def take_pending(self) -> bytes:
        """What was held."""
        pending, self._pending = self._pending, None
        return b"".join(pending) if pending else b""


_LISTS = {b"traceparent", b"tracestate", b"accept", b"accept-encoding", b"access-control-request-headers"}


def add_repeated(headers: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Take a header that came before: joined where a list is meant, else instead of the first.

    Of ``traceparent`` there may be one only; two joined are malformed, and so count as none.
    """
    headers[name] = b"%b,%b" % (headers[name], value) if name in _LISTS else value


def respond_error(exchange: Exchange, error: SetpointError) -> None:
    """Answer with an error, unless the client has its answer already."""
    if not exchange.answered:
        headers = tuple((name.encode(), value.encode()) for name, value in headers_of(error))
        # The kind, since one status stands for several and a client may come again after some of them only.
        headers += ((b"setpoint-error", error.kind.encode()),)
        exchange.respond(status_of(error), body_of(error, exchange.path), headers=headers)
